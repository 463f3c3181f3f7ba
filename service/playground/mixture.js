// A mixture: which points are ticked, and the weight of each.

let mixtureRows = [];

function fillMixture() {
  const start = bundle.ensembles[0];
  const ticked = new Map(start ? start.members.map((name, index) => [name, sharesOf(start)[index]]) : []);
  const greatest = Math.max(...ticked.values(), 0);
  const ordered = bundle.stops.length
    ? [...bundle.stops, ...bundle.members.filter((point) => !bundle.stops.includes(point))]
    : bundle.members;
  mixtureRows = ordered.map((point) =>
    memberRow(point, !start || ticked.has(point.name), ticked.has(point.name) ? ticked.get(point.name) / greatest : 1),
  );
  byId("members-list").replaceChildren(...mixtureRows.map((row) => row.container));
  showShares();
}

function memberRow(point, checked, value) {
  const tick = element("input", { type: "checkbox", value: point.name, checked });
  const weight = element("input", { type: "range", min: 0, max: 1, step: 0.05, value: value.toFixed(2) });
  weight.setAttribute("aria-label", `Weight of ${point.name}`);
  const part = element("output", { className: "part" });
  const label = element(
    "label",
    { className: "tick" },
    tick,
    point.name,
    " ",
    element("span", { className: "hint" }, place(point.alpha)),
  );
  const changed = () => {
    showShares();
    choiceChanged();
  };
  tick.addEventListener("change", changed);
  weight.addEventListener("input", changed);
  return { tick, weight, part, container: element("div", { className: "member-choice" }, label, weight, part) };
}

function showShares() {
  const weights = mixtureRows.map((row) => (row.tick.checked ? Number(row.weight.value) : 0));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  mixtureRows.forEach((row, index) => {
    row.weight.disabled = !row.tick.checked;
    row.part.textContent = row.tick.checked && total > 0 ? share(weights[index] / total) : "–";
    row.weight.setAttribute("aria-valuetext", row.part.textContent);
  });
}

for (const radio of document.querySelectorAll("[name=aggregate]"))
  radio.addEventListener("change", () => choiceChanged());
