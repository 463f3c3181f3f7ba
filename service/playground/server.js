// Asking the server: addresses are relative to the page, so that it works behind a path prefix.

const ATTEMPTS = 6;
const LONGEST_WAIT = 10; // seconds

// Kept here and nowhere else.
let token = "";

/** What the server refused, in its own words. `status` is 0 where it could not be reached. */
class Refused extends Error {
  constructor(message, status = 0, seconds = 1, id = null) {
    super(message);
    Object.assign(this, { status, seconds, id });
  }

  /** Whether asking again later may help. */
  get busy() {
    return this.status === 429 || this.status === 503;
  }
}

/** Return the JSON that the server answers; with `body`, by POST. Throws `Refused`, or AbortError. */
async function call(path, { body, signal } = {}) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  let response;
  try {
    response = await fetch(path, { method: body ? "POST" : "GET", body, headers, signal, cache: "no-store" });
  } catch {
    signal?.throwIfAborted();
    throw new Refused("The server cannot be reached.");
  }
  const answer = await response.json().catch(() => null);
  signal?.throwIfAborted();
  if (response.ok && answer) return answer;
  const seconds = Number(response.headers.get("retry-after") ?? 1);
  const message =
    typeof answer?.error === "string" ? answer.error : `The server answered with status ${response.status}.`;
  throw new Refused(
    message,
    response.status,
    Number.isFinite(seconds) ? seconds : 1,
    response.headers.get("x-request-id"),
  );
}

/** Like `call`, but where the server is busy or starting, wait as long as it asks and longer each time; `tell` why. */
async function callPatiently(path, options, tell) {
  for (let attempt = 1; ; attempt++) {
    try {
      return await call(path, options);
    } catch (error) {
      if (!error.busy || attempt === ATTEMPTS) throw error;
      const seconds = Math.min(error.seconds * 2 ** (attempt - 1), LONGEST_WAIT);
      tell(`${sentence(error.message)} Trying again in ${seconds} s.`);
      await pause(seconds * 1000);
      options.signal?.throwIfAborted();
    }
  }
}

/** Ask for one image's answer from the models that `choice` names; every class up to `top` is in it. */
function predict(image, choice, top, options, tell) {
  const body = new FormData();
  for (const [name, value] of Object.entries({ ...choice, top_k: top, return_members: true })) {
    for (const one of [value].flat()) body.append(name, one);
  }
  body.append("images", image, image.name ?? "drawing.png");
  return callPatiently("predict_image", { ...options, body }, tell);
}

/**
 * Return a function that does `work(signal)` once it has not been called for some milliseconds. A newer call aborts an
 * older one, whatever that one still waits for, so no answer is seen that is not the latest question's.
 */
function newest(milliseconds, work, failed) {
  let controller = new AbortController();
  return async () => {
    controller.abort();
    controller = new AbortController();
    const { signal } = controller;
    await pause(milliseconds);
    if (signal.aborted) return;
    try {
      await work(signal);
    } catch (error) {
      if (!signal.aborted) failed(error);
    }
  };
}

function pause(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

/** Make a sentence of a message, unless it begins with what is not a word, like images[0]. */
function sentence(text) {
  const first = /^[a-z]+ /.test(text) ? text.charAt(0).toUpperCase() + text.slice(1) : text;
  return /[.!?]$/.test(first) ? first : `${first}.`;
}
