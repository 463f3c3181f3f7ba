// What the server answered: every number here is its own, only the picture of it is made here.

const BARS = 12; // up to so many classes all keep their places; of more, the likeliest are shown
const LIKELIEST = 8;
const MEASURES = ["entropy", "mutual_information", "disagreement"];

const barRows = new Map(); // index of the class -> its elements
let current = null; // what is shown: { answer, version }
let previous = null; // the measures before, while the image is the same: { version, values }

/** Show a document of POST /predict_image with one prediction; `version` is the image's. */
function showAnswer(answer, version) {
  const [prediction] = answer.predictions;
  current = { answer, version };
  byId("empty").hidden = true;
  byId("answer").hidden = false;
  const [best] = prediction.labels;
  byId("best").textContent = best.label;
  byId("best-probability").textContent = percent(best.probability);
  byId("answered-by").textContent = answeredBy(answer);
  const surety = ` ${percent(best.probability)} · entropy ${decimals(prediction.entropy)}`;
  byId("echo").replaceChildren(element("b", {}, best.label), surety);
  showBars(prediction);
  showMeasures(prediction, version);
  showMembers(answer, prediction);
  const measures = MEASURES.filter((name) => name in prediction).map(
    (name) => `${name.replace("_", " ")} ${decimals(prediction[name])}`,
  );
  byId("live").textContent =
    `${answeredBy(answer)}: ${best.label}, ${percent(best.probability)}; ${measures.join(", ")}`;
}

/** Draw the answer to an image again, in the colours that are known now. */
function recolour(version) {
  if (current?.version !== version) return;
  const [prediction] = current.answer.predictions;
  showBars(prediction);
  showMembers(current.answer, prediction);
}

/** Take the answer away: there is no image, or the server refused it. */
function showNoAnswer(message = "Choose or draw an image, and the answer appears here.") {
  byId("empty").textContent = message;
  byId("empty").hidden = false;
  byId("answer").hidden = true;
  byId("bars").replaceChildren();
  byId("echo").textContent = "";
  current = null;
  previous = null;
}

function answeredBy(answer) {
  const parts = [];
  if (answer.model) parts.push(answer.model);
  else if (answer.members.length > 1) parts.push(`a mixture of ${answer.members.map(memberName).join(", ")}`);
  if (answer.alpha !== null) parts.push(`α ${place(answer.alpha)}`);
  if (answer.statistics) parts.push(`${answer.statistics} statistics`);
  else if (bundle.subspace) parts.push("statistics of several sets");
  if (answer.members.length > 1) parts.push(`averaging ${answer.aggregate}`);
  parts.push(`temperature ${answer.temperature === 1 ? "1" : decimals(answer.temperature)}`);
  const missing = Object.entries(answer.missing ?? {}).map(([name, reason]) => `without ${name} (${reason})`);
  return [...parts, ...missing].join(" · ");
}

/** A member is a point's name, or the place of a network that is no point. */
function memberName(member) {
  return typeof member === "string" ? member : `α ${place(member)}`;
}

function showBars(prediction) {
  const all = bundle.labels.length <= BARS;
  const labels = all
    ? [...prediction.labels].sort((one, other) => one.index - other.index)
    : prediction.labels.slice(0, LIKELIEST);
  const members =
    prediction.members?.length > 1
      ? prediction.members.map((member) => [memberName(member.model), probabilitiesOf(member.labels)])
      : [];
  for (const index of barRows.keys()) if (!labels.some((label) => label.index === index)) barRows.delete(index);
  const shown = labels.map((label) => {
    if (!barRows.has(label.index)) barRows.set(label.index, newBar());
    const { row, name, fill, dots, value } = barRows.get(label.index);
    row.className = `bar ${colourClass(label.index)}${label.index === prediction.labels[0].index ? " best" : ""}`;
    name.textContent = label.label;
    value.textContent = percent(label.probability);
    value.title = String(label.probability);
    fill.style.width = `${label.probability * 100}%`;
    const visible = members.some(([, probabilities]) => probabilities[label.index] >= 0.01);
    dots.replaceChildren(
      ...(visible ? members.map(([member, probabilities]) => dot(member, probabilities[label.index])) : []),
    );
    return row;
  });
  byId("bars").replaceChildren(...shown);
  const notes = [];
  if (!all) notes.push(`The ${shown.length} likeliest of ${bundle.labels.length} classes.`);
  if (members.length) notes.push("Bars are the answer, dots the members.");
  byId("bars-note").textContent = notes.join(" ");
}

function newBar() {
  const [name, fill, dots, value] = ["name", "fill", "dots", "value"].map((className) =>
    element("span", { className }),
  );
  dots.ariaHidden = "true";
  return {
    name,
    fill,
    dots,
    value,
    row: element("li", {}, name, element("span", { className: "track" }, fill, dots), value),
  };
}

function dot(member, probability) {
  const created = element("span", { className: "member-dot", title: `${member}: ${percent(probability)}` });
  created.style.left = `${probability * 100}%`;
  return created;
}

function showMeasures(prediction, version) {
  const greatest = Math.log(Math.max(2, bundle.labels.length));
  byId("entropy-about").textContent =
    `How unsure the answer is, in nats: 0 is certain, ${greatest.toFixed(2)} knows nothing.`;
  const before = previous?.version === version ? previous.values : {};
  for (const name of MEASURES) {
    const value = prediction[name];
    const parts =
      value === undefined
        ? ["needs several members"]
        : measure(value, before[name], name === "disagreement" ? 1 : greatest);
    byId(name).classList.toggle("none", value === undefined);
    byId(name).replaceChildren(...parts);
  }
  previous = { version, values: Object.fromEntries(MEASURES.map((name) => [name, prediction[name]])) };
}

/** A number, how it moved, and a meter with its former place. */
function measure(value, before, greatest) {
  const meter = element("span", { className: "meter", ariaHidden: "true" }, element("span", { className: "fill" }));
  meter.firstChild.style.width = `${(value / greatest) * 100}%`;
  const number = element("span", { className: "number", title: String(value) }, decimals(value));
  const change = before === undefined ? 0 : value - before;
  const moved = element("span", { className: "moved" });
  if (Math.abs(change) >= 0.0005) {
    moved.textContent = `${change > 0 ? "↑" : "↓"} ${decimals(Math.abs(change))}`;
    const ghost = element("span", { className: "ghost" });
    ghost.style.left = `${(before / greatest) * 100}%`;
    meter.append(ghost);
  }
  return [number, moved, meter];
}

function showMembers(answer, prediction) {
  const several = prediction.members?.length > 1;
  byId("members").hidden = !several;
  if (!several) return;
  const whole = { labels: prediction.labels, entropy: prediction.entropy };
  const mixture = memberLine(answer.model ?? "the mixture", "", whole, "whole");
  const lines = prediction.members.map((member, index) => {
    const alpha = typeof member.model === "string" ? place(alphaOf(member.model)) : "";
    const part = share(answer.weights[index]);
    return memberLine(memberName(member.model), [alpha && `α ${alpha}`, part].filter(Boolean).join(" · "), member, "");
  });
  byId("member-rows").replaceChildren(mixture, ...lines);
}

function memberLine(name, aside, { labels, entropy }, className) {
  const says = labels
    .slice(0, 2)
    .map((label) => element("span", {}, element("b", {}, label.label), ` ${percent(label.probability)} `));
  return element(
    "li",
    { className },
    element("span", { className: "member-name" }, name, " ", element("span", { className: "hint" }, aside)),
    stackOf(probabilitiesOf(labels)),
    element(
      "span",
      { className: "says" },
      ...says,
      element("span", { className: "hint" }, `entropy ${decimals(entropy)}`),
    ),
  );
}
