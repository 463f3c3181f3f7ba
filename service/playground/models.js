// Which network, or networks, answer: one point by a slider, a named model, or a mixture of ticked points. Where the
// bundle holds the subspace itself, the slider stands at any place (subspace.js).

const bundle = { labels: [], input: null, points: [], ensembles: [], stops: [], byName: new Map(), sha256: null };
let stop = 0; // the slider's place among `bundle.stops`
let pointName = null;
let choiceChanged = () => {};

const modeRadios = [...document.querySelectorAll("[name=mode]")];
const slider = byId("slider");

/** Put what GET /models answered into the controls; `changed` is called whenever another choice is made. */
function startModels(answer, changed) {
  choiceChanged = changed;
  bundle.labels = answer.labels;
  bundle.input = answer.input;
  bundle.sha256 = answer.bundle?.sha256 ?? null;
  bundle.points = answer.models.filter((model) => model.type === "point");
  bundle.ensembles = answer.models.filter((model) => model.type === "ensemble");
  bundle.byName = new Map(answer.models.map((model) => [model.name, model]));
  bundle.subspace = answer.subspace;
  bundle.domains = answer.subspace ? answer.domains : [];
  // A point with a domain's statistics is what its place answers once these are chosen.
  bundle.members = bundle.subspace ? bundle.points.filter((point) => point.statistics === "training") : bundle.points;
  // A line or curve has numbers for its places; a simplex has lists, which no slider can order.
  const onLine = bundle.members.filter((point) => typeof point.alpha === "number");
  bundle.stops =
    onLine.length > 1 || bundle.subspace ? onLine.sort((one, other) => one.alpha - other.alpha) : [];
  bundle.line = bundle.subspace ? bundle.subspace.geometry !== "simplex" : bundle.stops.length > 0;
  fillDomains();
  fillPoints(answer.default);
  fillNames(answer.default);
  fillMixture();
  const mode = bundle.byName.get(answer.default)?.type === "ensemble" ? "model" : "point";
  for (const radio of modeRadios) radio.checked = radio.value === mode;
  showMode();
}

const mode = () => modeRadios.find((radio) => radio.checked).value;

/** Return what a request must say to get the chosen answer, or null where too little is ticked. */
function choice() {
  if (mode() === "point" && bundle.subspace) return withDomain(at(here));
  if (mode() === "point") return { model: bundle.line ? bundle.stops[stop].name : pointName };
  if (mode() === "model") return withDomain({ model: byId("model").value });
  const ticked = mixtureRows.filter((row) => row.tick.checked);
  if (!ticked.some((row) => row.weight.value > 0)) return null;
  return withDomain({
    members: ticked.map((row) => row.tick.value),
    weights: ticked.map((row) => row.weight.value),
    aggregate: document.querySelector("[name=aggregate]:checked").value,
  });
}

/** Return the places that answer, and their shares. */
function chosenShares() {
  const chosen = choice();
  if (!chosen) return [];
  const model = chosen.model ? bundle.byName.get(chosen.model) : chosen;
  if (!model.members) return [[model.alpha, 1]];
  const total = model.weights.reduce((sum, weight) => sum + Number(weight), 0);
  return model.members.map((name, index) => [alphaOf(name), model.weights[index] / total]);
}

/** Return where a member lies, be it a point's name or the place itself. */
function alphaOf(member) {
  return typeof member === "string" ? (bundle.byName.get(member)?.alpha ?? null) : member;
}

function showMode() {
  for (const name of ["point", "model", "mixture"]) byId(`panel-${name}`).hidden = name !== mode();
  choiceChanged();
}
for (const radio of modeRadios) radio.addEventListener("change", showMode);

/** What is worth knowing about a model: how it was measured, and at which temperature it answers. */
function about(model) {
  const facts = [];
  if (typeof model.metrics?.accuracy === "number") facts.push(`test accuracy ${percent(model.metrics.accuracy)}`);
  if (model.statistics && model.statistics !== "training") facts.push(`${model.statistics} statistics`);
  if (model.temperature && model.temperature !== 1) facts.push(`temperature ${decimals(model.temperature)}`);
  return facts;
}

// One point

function fillPoints(preferred) {
  const ends = bundle.subspace ? [0, 1] : [bundle.stops[0]?.alpha ?? 0, bundle.stops.at(-1)?.alpha ?? 1];
  Object.assign(slider, { min: ends[0], max: ends[1], step: bundle.subspace ? 1 / placeCount() : "any" });
  slider.parentElement.hidden = !bundle.line;
  byId("stops").replaceChildren(
    ...bundle.stops.map((point) => stopMark((point.alpha - ends[0]) / (ends[1] - ends[0] || 1))),
  );
  byId("point-list").hidden = bundle.line;
  byId("endpoint-weights").hidden = bundle.line || !(bundle.subspace?.endpoints > 1);
  if (bundle.subspace) return fillPlace(preferred);
  if (bundle.line) {
    const index = bundle.stops.findIndex((point) => point.name === preferred);
    setStop(index < 0 ? 0 : index);
    return;
  }
  pointName = bundle.points.some((point) => point.name === preferred) ? preferred : bundle.points[0].name;
  byId("point-list").replaceChildren(...bundle.points.map(pointRadio));
  showPoint(bundle.byName.get(pointName));
}

function stopMark(part) {
  const mark = element("span");
  mark.style.left = `${part * 100}%`;
  return mark;
}

function pointRadio(point) {
  const radio = element("input", {
    type: "radio",
    name: "point",
    value: point.name,
    checked: point.name === pointName,
  });
  radio.addEventListener("change", () => {
    pointName = point.name;
    if (bundle.subspace) setPlace(point.alpha);
    else showPoint(point);
    choiceChanged();
  });
  const label = element(
    "label",
    { className: "tick" },
    radio,
    point.name,
    " ",
    element("span", { className: "hint" }, place(point.alpha)),
  );
  return element("div", { className: "point-choice" }, label, element("span", { className: "own" }));
}

function showPoint(point) {
  byId("alpha").textContent = point.alpha === null ? point.name : `α = ${place(point.alpha)}`;
  byId("point-about").textContent = [point.name, ...about(point)].join(" · ");
}

function setStop(index) {
  stop = Math.max(0, Math.min(bundle.stops.length - 1, index));
  const point = bundle.stops[stop];
  slider.value = point.alpha;
  slider.setAttribute("aria-valuetext", `alpha ${place(point.alpha)}, ${point.name}`);
  showPoint(point);
}

/** Go to a place, or where only points answer to the nearest of these. */
function slideTo(alpha) {
  if (!bundle.subspace) return moveTo(nearestStop(alpha));
  const before = place(here);
  setPlace(bundle.line ? onStep(alpha) : alpha);
  if (place(here) !== before) choiceChanged({ sliding: true });
}

function moveTo(index) {
  const before = stop;
  setStop(index);
  if (stop !== before) choiceChanged();
}

/** The stop nearest to a place; of several at the same place, the present one stays. */
function nearestStop(alpha) {
  const distance = (point) => Math.abs(point.alpha - alpha);
  const least = Math.min(...bundle.stops.map(distance));
  return distance(bundle.stops[stop]) === least ? stop : bundle.stops.findIndex((point) => distance(point) === least);
}

// Keys go from point to point, however far apart these lie, and also between two at the same place.
const STEPS = {
  ArrowRight: 1,
  ArrowUp: 1,
  PageUp: 1,
  ArrowLeft: -1,
  ArrowDown: -1,
  PageDown: -1,
  Home: -Infinity,
  End: Infinity,
};
let sliding = false;
slider.addEventListener("keydown", (event) => {
  if (bundle.subspace || !(event.key in STEPS) || event.ctrlKey || event.altKey || event.metaKey) return;
  event.preventDefault();
  moveTo(stop + STEPS[event.key]);
});
slider.addEventListener("pointerdown", () => (sliding = true));
for (const end of ["pointerup", "pointercancel", "blur"]) slider.addEventListener(end, () => (sliding = false));
slider.addEventListener("input", () => {
  if (bundle.subspace) return slideTo(Number(slider.value));
  const difference = slider.value - bundle.stops[stop].alpha;
  const near = nearestStop(Number(slider.value));
  // A screen reader's small step, too, must arrive at the next point.
  moveTo(sliding || near !== stop ? near : stop + Math.sign(difference));
});

// A named model

function fillNames(preferred) {
  const option = (model) => element("option", { value: model.name }, model.name);
  const group = (label, models) => element("optgroup", { label }, ...models.map(option));
  const groups = [
    group("Points", bundle.points),
    ...(bundle.ensembles.length ? [group("Ensembles", bundle.ensembles)] : []),
  ];
  byId("model").replaceChildren(...groups);
  // An ensemble first: the points are on the slider already.
  const isEnsemble = bundle.byName.get(preferred)?.type === "ensemble";
  byId("model").value = isEnsemble ? preferred : (bundle.ensembles[0]?.name ?? preferred);
  showName();
}

function showName() {
  const model = bundle.byName.get(byId("model").value);
  const facts = about(model);
  if (model.members) {
    const shares = sharesOf(model);
    const members = model.members.map((name, index) => `${name} ${share(shares[index])}`);
    facts.unshift(`an ensemble of ${members.join(", ")}`, `averages ${model.aggregate}`);
  } else {
    facts.unshift(model.alpha === null ? "a point" : `the point at α = ${place(model.alpha)}`);
  }
  byId("model-about").textContent = facts.join(" · ");
}

/** Return an ensemble's weights, normalised. */
function sharesOf(model) {
  const total = model.weights.reduce((sum, weight) => sum + weight, 0);
  return model.weights.map((weight) => weight / total);
}

byId("model").addEventListener("change", () => {
  showName();
  choiceChanged();
});
