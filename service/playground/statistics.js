// What each set of statistics makes of the image at one place, side by side, as the networks gave it: not every set has
// a temperature of its own.

const SET_CLASSES = 4;

/** Ask the chosen place with each set; `ask` answers a choice. An ensemble lies at no one place, and has no picture. */
async function askForSets(ask) {
  const [[alpha] = [null], ...others] = chosenShares();
  const shown = bundle.domains.length > 0 && alpha !== null && !others.length;
  if (!shown) byId("sets").hidden = true;
  if (!shown) return;
  const sets = [];
  for (const name of ["", ...bundle.domains.map((one) => one.name)]) {
    const answer = await ask(name ? { ...at(alpha), domain: name } : at(alpha));
    sets.push([name || "training", answer.predictions[0].members[0]]);
  }
  // The same classes in each, likeliest anywhere first.
  const likeliest = sets.flatMap(([, { labels }]) => labels).sort((one, other) => other.probability - one.probability);
  const classes = [...new Set(likeliest.map((label) => label.index))].slice(0, SET_CLASSES);
  byId("sets-title").textContent = `With each set of statistics, at α = ${place(alpha)} and temperature 1`;
  byId("set-columns").replaceChildren(...sets.map(([name, answered]) => setColumn(name, answered, classes)));
  byId("sets").hidden = false;
  waiting(byId("sets"), false);
}

function setColumn(name, { labels, entropy }, classes) {
  const probabilities = probabilitiesOf(labels);
  const rows = classes.map((index) => {
    const { row, name: label, fill, value } = newBar();
    row.className = `bar ${colourClass(index)}${index === labels[0].index ? " best" : ""}`;
    label.textContent = bundle.labels[index];
    value.textContent = percent(probabilities[index]);
    fill.style.width = `${probabilities[index] * 100}%`;
    return row;
  });
  return element(
    "li",
    { className: name === (domain() || "training") ? "chosen" : "" },
    element("b", {}, name),
    " ",
    element("span", { className: "hint" }, `entropy ${decimals(entropy)}`),
    element("ul", { className: "bars" }, ...rows),
  );
}
