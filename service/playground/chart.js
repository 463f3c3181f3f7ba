// What each exported point makes of the image: along alpha a small line chart under the slider; in a simplex, where no
// line orders the points, a bar beside each.

const COLOURS = 5; // classes that get a colour of their own; the others share grey
const CHART_HEIGHT = 168;
const PLOT = { left: 11, right: 11, top: 10, bottom: 26 }; // sides as half the slider's thumb, so that stops lie above

// The points' own probabilities of the present image: name -> array over classes, at the points' own temperatures.
let along = new Map();
// The classes that are likely anywhere, likeliest first.
let colourOrder = [];

/** Keep what an answer with every point as a member says; the colours follow from it and stay while one slides. */
function keepMembers(answer) {
  along = new Map(
    answer.predictions[0].members.map((member) => [
      member.model,
      tempered(probabilitiesOf(member.labels), bundle.byName.get(member.model)?.temperature ?? 1),
    ]),
  );
  const greatest = bundle.labels.map((_, index) => Math.max(...[...along.values()].map((one) => one[index])));
  colourOrder = greatest.map((_, index) => index).sort((one, other) => greatest[other] - greatest[one]);
  colourOrder = colourOrder.filter((index) => greatest[index] >= 0.02).slice(0, COLOURS);
}

function forgetMembers() {
  along = new Map();
  colourOrder = [];
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
    const own = along.get(row.querySelector("input").value);
    row.querySelector(".own").replaceChildren(...(own ? [stackOf(own)] : []));
  }
}

function showLegend() {
  const key = (name, text) => element("li", {}, element("span", { className: `key ${name}` }), text);
  byId("legend").replaceChildren(
    ...colourOrder.map((index) => key(colourClass(index), bundle.labels[index])),
    key("doubt", "doubt: entropy in parts of its greatest"),
  );
  byId("along-caption").textContent =
    "Probabilities from 0 to 100 % of every point's own answer to this image, along α.";
}

/** Draw the chart anew for the present width and choice. */
function drawChart() {
  showPointBars();
  const points = bundle.stops.filter((point) => along.has(point.name));
  byId("along").hidden = points.length < 2;
  if (points.length < 2) return;
  const width = byId("chart").clientWidth;
  const [first, last] = [bundle.stops[0].alpha, bundle.stops.at(-1).alpha];
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
  for (const [name, weight] of chosenShares()) {
    const alpha = bundle.byName.get(name)?.alpha;
    if (typeof alpha !== "number") continue;
    const [top, bottom] = [PLOT.top - 6, CHART_HEIGHT - PLOT.bottom + 4];
    drawing.append(
      svg("line", { class: "here", x1: x(alpha), x2: x(alpha), y1: top, y2: bottom, "stroke-width": 2 + 8 * weight }),
    );
  }
  const doubt = points.map((point) => entropyOf(along.get(point.name)) / Math.log(Math.max(2, bundle.labels.length)));
  drawing.append(svg("path", { class: "doubt", d: path(doubt) }));
  for (const index of [...colourOrder].reverse()) {
    const values = points.map((point) => along.get(point.name)[index]);
    drawing.append(svg("path", { class: `series ${colourClass(index)}`, d: path(values) }));
    drawing.append(
      ...points.map((point, at) =>
        svg("circle", { class: `dot ${colourClass(index)}`, cx: x(point.alpha), cy: y(values[at]), r: 3.5 }),
      ),
    );
  }
  drawing.append(...axisLabels(points, x, width));
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
function axisLabels(points, x, width) {
  let free = -Infinity;
  return points.flatMap((point) => {
    const text = place(point.alpha);
    const half = 4 * text.length;
    const at = Math.max(half, Math.min(width - half, x(point.alpha)));
    if (at - half < free + 6) return [];
    free = at + half;
    return [svg("text", { class: "axis", x: at, y: CHART_HEIGHT - 6, "text-anchor": "middle" }, text)];
  });
}

function inWords(points) {
  const index = colourOrder[0];
  const values = points.map((point) => `${percent(along.get(point.name)[index])} at ${place(point.alpha)}`);
  return `Probability of ${bundle.labels[index]} along alpha: ${values.join(", ")}`;
}

byId("chart").addEventListener("click", (event) => {
  if (mode() !== "point") return;
  const box = byId("chart").getBoundingClientRect();
  const part = (event.clientX - box.left - PLOT.left) / (box.width - PLOT.left - PLOT.right);
  moveTo(nearestStop(Number(slider.min) + part * (slider.max - slider.min)));
});
new ResizeObserver(drawChart).observe(byId("along").parentElement);
