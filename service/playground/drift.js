// Whether the images that a model has answered are still like those before: a badge beside the answer.

const driftBadge = byId("drift");

/** Ask how the stream of the model that answered stands, and say so; of what is not watched, nothing. */
async function askForDrift(model, signal) {
  driftBadge.hidden ||= model !== driftBadge.dataset.model;
  if (!model) return;
  try {
    const found = await call(`models/${encodeURIComponent(model)}/drift`, { signal });
    showDrift(found);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    driftBadge.hidden = true; // nobody asked for it: the server may not watch, or be of an earlier version
  }
}

function showDrift(found) {
  const images = `${found.images} image${found.images === 1 ? "" : "s"}`;
  const since = found.since && new Date(found.since.time);
  driftBadge.dataset.model = found.model;
  driftBadge.classList.toggle("drifted", found.alarm);
  driftBadge.textContent = found.alarm
    ? `Drifted since ${since.toLocaleString()} (image ${found.since.image} of ${found.images})`
    : found.images
      ? `No sign of drift in ${images}`
      : "Watched for drift";
  driftBadge.title = sentence(found.advice);
  driftBadge.hidden = false;
}
