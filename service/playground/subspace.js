// Any place of the subspace, and whose statistics it has: only where the bundle holds the subspace itself.

let here = null; // alpha: a number, or in a simplex a list of the endpoints' weights
let weightRows = [];

/** In how many steps the slider goes along alpha. */
const placeCount = () => Math.round(1 / (bundle.subspace.step || 0.01));

/** Ask for the network at a place; a form has no list of one, where there is but one network. */
const at = (alpha) => (alpha.length === 1 ? { model: bundle.members[0].name } : { alpha });

function fillPlace(preferred) {
  const points = bundle.members.filter((point) => point.alpha !== null);
  const { endpoints } = bundle.subspace;
  weightRows = bundle.line ? [] : Array.from({ length: endpoints }, (_, index) => weightRow(index));
  byId("endpoint-weights").replaceChildren(...weightRows.map((row) => row.container));
  byId("point-list").replaceChildren(...(bundle.line ? [] : points.map(pointRadio)));
  const middle = bundle.line ? 0.5 : new Array(endpoints).fill(1 / endpoints);
  setPlace(alphaOf(preferred) ?? points[0]?.alpha ?? middle);
}

function weightRow(index) {
  const weight = element("input", { type: "range", min: 0, max: 1, step: 1 / placeCount(), id: `endpoint-${index}` });
  const part = element("output", { className: "part" });
  const label = element("label", { htmlFor: weight.id }, `Endpoint ${index}`);
  weight.addEventListener("input", () => slideTo(reweighted(index, Number(weight.value))));
  return { weight, part, container: element("div", { className: "member-choice" }, label, weight, part) };
}

/** The place where one endpoint has this weight, and the others share what is left as before. */
function reweighted(index, weight) {
  const others = 1 - here[index];
  const rest = (own) => (others > 1e-9 ? (own / others) * (1 - weight) : (1 - weight) / (here.length - 1));
  return here.map((own, at) => (at === index ? weight : rest(own)));
}

/** The multiple of the step nearest to a place, or the point that lies so near. */
function onStep(alpha) {
  const near = bundle.stops.find((point) => Math.abs(point.alpha - alpha) < 0.5 / placeCount());
  return near ? near.alpha : Math.round(alpha * placeCount()) / placeCount();
}

function setPlace(alpha) {
  here = alpha;
  const point = bundle.members.find((one) => place(one.alpha) === place(here));
  showPoint(point ?? { alpha: here, name: "a network between the points" });
  if (domain()) byId("point-about").textContent = `with the statistics of ${domain()}`;
  slider.value = here;
  slider.setAttribute("aria-valuetext", [`alpha ${place(here)}`, point?.name].filter(Boolean).join(", "));
  weightRows.forEach((row, index) => {
    row.weight.value = here[index];
    row.part.textContent = share(here[index]);
  });
  for (const radio of document.querySelectorAll("[name=point]")) radio.checked = radio.value === point?.name;
}

// Statistics

/** The name of the domain whose statistics are chosen; empty for those of the training. */
const domain = () => byId("domain").value;

const withDomain = (chosen) => (domain() ? { ...chosen, domain: domain() } : chosen);

function fillDomains() {
  const option = (text, value) => element("option", { value }, text);
  byId("sets").hidden = true;
  byId("panel-domain").hidden = !bundle.domains.length;
  byId("domain").replaceChildren(option("training", ""), ...bundle.domains.map(({ name }) => option(name, name)));
  showDomain();
}

function showDomain() {
  const chosen = bundle.domains.find(({ name }) => name === domain());
  byId("domain-about").textContent = chosen ? `its own place is α = ${place(chosen.alpha)}` : "";
}

byId("domain").addEventListener("change", () => {
  showDomain();
  setPlace(here);
  choiceChanged();
});
