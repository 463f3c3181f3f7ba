// Elements and numbers. What the server says becomes text, never markup.

const byId = (id) => document.getElementById(id);

/** Return a new element with properties and children; strings become text. */
function element(tag, properties = {}, ...children) {
  const created = Object.assign(document.createElement(tag), properties);
  created.append(...children);
  return created;
}

/** Return a new SVG element with attributes. */
function svg(tag, attributes = {}, ...children) {
  const created = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) created.setAttribute(name, value);
  created.append(...children);
  return created;
}

const percent = (probability) => `${(probability * 100).toFixed(1)} %`;
const share = (weight) => `${Math.round(weight * 100)} %`;
const decimals = (value) => value.toFixed(3);

/** Say a place: 0.25, or (0.2, 0.3, 0.5) in a simplex; null for a network that lies nowhere. */
function place(alpha) {
  if (alpha === null || alpha === undefined) return "";
  const short = (value) => String(Number(value.toFixed(4)));
  return Array.isArray(alpha) ? `(${alpha.map(short).join(", ")})` : short(alpha);
}

/** Show a message above the page, with a button that does `again` where that is given; without a message, hide it. */
function notify(message = "", { error = false, again = null } = {}) {
  byId("notice-text").textContent = message;
  byId("notice").hidden = !message;
  byId("notice").classList.toggle("error", error);
  byId("again").hidden = !again;
  byId("again").onclick = again;
}
