// What each exported point makes of the image, and other places as they are asked: along alpha a small line chart under
// the slider; in a simplex, where no line orders the points, a bar beside each.

const COLOURS = 5; // classes that get a colour of their own; the others share grey
const CHART_HEIGHT = 168;
const PLOT = { left: 11, right: 11, top: 10, bottom: 26 }; // sides as half the slider's thumb, so that stops lie above

const FINEST = 32; // the chart fills in by itself until so many parts of the slider are known
const MOST_BUILT = 8; // places that the server builds for one request
const FEW = 9; // so many places are told in words, and have a large dot
const TICKS = [0, 0.25, 0.5, 0.75, 1];

// What is known of the present question, an image and statistics: key -> { alpha, probabilities }. Where there are only
// points, each is at its own temperature; between them there is none, so where places answer all are as the networks
// gave them.
let along = new Map();
let alongQuestion = null;
// The classes that are likely anywhere, likeliest first; those found later come last.
let colourOrder = [];

/** Keep what each member of an answer says; the colours follow from it and stay while one slides. */
function keepMembers(answer, question) {
  if (alongQuestion !== question) forgetMembers();
  alongQuestion = question;
  for (const { model, labels } of answer.predictions[0].members) {
    const temperature = bundle.subspace ? 1 : (bundle.byName.get(model)?.temperature ?? 1);
    const probabilities = tempered(probabilitiesOf(labels), temperature);
    along.set(alongKey(model), { alpha: alphaOf(model), probabilities });
  }
  const known = [...along.values()];
  const greatest = bundle.labels.map((_, index) => Math.max(...known.map((one) => one.probabilities[index])));
  const likely = bundle.labels.map((_, index) => index).filter((index) => greatest[index] >= 0.02);
  likely.sort((one, other) => greatest[other] - greatest[one]);
  colourOrder = [...new Set([...colourOrder, ...likely])].slice(0, COLOURS);
}

function forgetMembers() {
  along = new Map();
  alongQuestion = null;
  colourOrder = [];
}

/** A point and the network at its place are the same, where the bundle holds the subspace. */
function alongKey(member) {
  return (bundle.subspace && place(alphaOf(member))) || member;
}

/**
 * Return the names of the points that the chart lacks, in parts that can be asked for together. With a domain's
 * statistics each is a network to be built at its place, once, and there are none of lesser precision or beyond the ends.
 */
function missingPoints() {
  const known = alongQuestion === question() ? along : new Map();
  const missing = new Map();
  for (const point of bundle.members) {
    const inside = point.alpha !== null && [point.alpha].flat().every((part) => part >= 0 && part <= 1);
    const answers = !domain() || (inside && !point.precision && !point.float_point);
    if (answers && !known.has(alongKey(point.name))) missing.set(alongKey(point.name), point.name);
  }
  const names = [...missing.values()];
  const size = domain() ? MOST_BUILT : names.length;
  return names.map((_, index) => names.slice(index * size, (index + 1) * size)).filter((part) => part.length);
}

/** Return at most `count` places to ask next, in the widest gaps; none once all of these are narrow. */
function nextPlaces(count) {
  const parts = placeCount();
  const asked = chartPoints().map(({ alpha }) => Math.round(alpha * parts));
  const known = [...asked];
  while (known.length < asked.length + count) {
    known.sort((one, other) => one - other);
    const gaps = known.slice(1).map((next, index) => next - known[index]);
    const widest = Math.max(...gaps, 0);
    const end = [0, parts].find((one) => !known.includes(one));
    if (end === undefined && widest <= Math.max(1, parts / FINEST)) break;
    known.push(end ?? known[gaps.indexOf(widest)] + Math.floor(widest / 2));
  }
  return known.filter((one) => !asked.includes(one)).map((one) => one / parts);
}

/** Return what is known along the slider, from left to right. */
function chartPoints() {
  const points = bundle.line ? [...along.values()].filter(({ alpha }) => typeof alpha === "number") : [];
  return points.sort((one, other) => one.alpha - other.alpha);
}

/** The class for the colour of a label's index. */
function colourClass(index) {
  const rank = colourOrder.indexOf(index);
  return rank < 0 ? "rest" : `c${rank}`;
}

/** Return probabilities in the order of the bundle's labels; what was not among the best counts as 0. */
function probabilitiesOf(labels) {
  const probabilities = new Array(bundle.labels.length).fill(0);
  for (const label of labels) probabilities[label.index] = label.probability;
  return probabilities;
}

/** Members come as the networks gave them; a point's own answer is p^(1/T), normalised. */
function tempered(probabilities, temperature) {
  if (temperature === 1) return probabilities;
  const powers = probabilities.map((probability) => probability ** (1 / temperature));
  const total = powers.reduce((sum, power) => sum + power, 0);
  return powers.map((power) => power / total);
}

function entropyOf(probabilities) {
  return -probabilities.reduce(
    (sum, probability) => sum + (probability > 0 ? probability * Math.log(probability) : 0),
    0,
  );
}

/** In the list of a simplex's points, show each point's own answer beside it. */
function showPointBars() {
  for (const row of byId("point-list").children) {
    const own = along.get(alongKey(row.querySelector("input").value));
    row.querySelector(".own").replaceChildren(...(own ? [stackOf(own.probabilities)] : []));
  }
}

function showLegend() {
  const key = (name, text) => element("li", {}, element("span", { className: `key ${name}` }), text);
  byId("legend").replaceChildren(
    ...colourOrder.map((index) => key(colourClass(index), bundle.labels[index])),
    key("doubt", "doubt: entropy in parts of its greatest"),
  );
  byId("along-caption").textContent = bundle.subspace
    ? "Probabilities from 0 to 100 % at temperature 1, along α; dots are the places that were asked."
    : "Probabilities from 0 to 100 % of every point's own answer to this image, along α.";
}

/** Draw the chart anew for the present width and choice. */
function drawChart() {
  showPointBars();
  const points = chartPoints();
  byId("along").hidden = points.length < 2;
  if (points.length < 2) return;
  const width = byId("chart").clientWidth;
  const [first, last] = [Number(slider.min), Number(slider.max)];
  const x = (alpha) => PLOT.left + ((alpha - first) / (last - first || 1)) * (width - PLOT.left - PLOT.right);
  const y = (value) => PLOT.top + (1 - value) * (CHART_HEIGHT - PLOT.top - PLOT.bottom);
  const path = (values) =>
    points
      .map((point, index) => `${index ? "L" : "M"}${x(point.alpha).toFixed(1)} ${y(values[index]).toFixed(1)}`)
      .join("");
  const drawing = svg("svg", {
    width,
    height: CHART_HEIGHT,
    viewBox: `0 0 ${width} ${CHART_HEIGHT}`,
    role: "img",
    "aria-label": inWords(points),
  });
  drawing.append(
    ...[0, 0.5, 1].map((value) => svg("line", { class: "grid", x1: 0, x2: width, y1: y(value), y2: y(value) })),
  );
  for (const [alpha, weight] of chosenShares()) {
    if (typeof alpha !== "number") continue;
    const [top, bottom] = [PLOT.top - 6, CHART_HEIGHT - PLOT.bottom + 4];
    drawing.append(
      svg("line", { class: "here", x1: x(alpha), x2: x(alpha), y1: top, y2: bottom, "stroke-width": 2 + 8 * weight }),
    );
  }
  const [many, radius] = points.length > FEW ? ["many", 2.4] : ["", 3.5];
  const doubt = points.map((point) => entropyOf(point.probabilities) / Math.log(Math.max(2, bundle.labels.length)));
  drawing.append(svg("path", { class: "doubt", d: path(doubt) }));
  for (const index of [...colourOrder].reverse()) {
    const values = points.map((point) => point.probabilities[index]);
    drawing.append(svg("path", { class: `series ${colourClass(index)}`, d: path(values) }));
    drawing.append(
      ...points.map(({ alpha }, at) =>
        svg("circle", { class: `dot ${many} ${colourClass(index)}`, cx: x(alpha), cy: y(values[at]), r: radius }),
      ),
    );
  }
  drawing.append(...axisLabels(bundle.subspace ? TICKS : points.map((point) => point.alpha), x, width));
  byId("chart").replaceChildren(drawing);
  showLegend();
}

/** Return one bar of the coloured classes' probabilities, side by side; what is left is the others'. */
function stackOf(probabilities) {
  const stack = element("span", { className: "stack", ariaHidden: "true" });
  for (const index of colourOrder) {
    const part = element("span", {
      className: `part ${colourClass(index)}`,
      title: `${bundle.labels[index]}: ${percent(probabilities[index])}`,
    });
    part.style.width = `${probabilities[index] * 100}%`;
    stack.append(part);
  }
  return stack;
}

/** Places that do not run into each other, under the plot. */
function axisLabels(places, x, width) {
  let free = -Infinity;
  return places.flatMap((alpha) => {
    const text = place(alpha);
    const half = 4 * text.length;
    const at = Math.max(half, Math.min(width - half, x(alpha)));
    if (at - half < free + 6) return [];
    free = at + half;
    return [svg("text", { class: "axis", x: at, y: CHART_HEIGHT - 6, "text-anchor": "middle" }, text)];
  });
}

function inWords(points) {
  const index = colourOrder[0];
  const told = points.filter((_, at) => at % Math.ceil(points.length / FEW) === 0);
  const values = told.map((point) => `${percent(point.probabilities[index])} at ${place(point.alpha)}`);
  return `Probability of ${bundle.labels[index]} along alpha: ${values.join(", ")}`;
}

byId("chart").addEventListener("click", (event) => {
  if (mode() !== "point") return;
  const box = byId("chart").getBoundingClientRect();
  const part = (event.clientX - box.left - PLOT.left) / (box.width - PLOT.left - PLOT.right);
  slideTo(Number(slider.min) + Math.max(0, Math.min(1, part)) * (slider.max - slider.min));
});
new ResizeObserver(drawChart).observe(byId("along").parentElement);
