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

/**
 * Like `call`, but where the server is busy or starting, wait as long as it asks and longer each time; `tell` why.
 * `body()` is made anew for every attempt.
 */
async function callPatiently(path, { body = () => undefined, signal }, tell) {
  for (let attempt = 1; ; attempt++) {
    try {
      return await call(path, { body: body(), signal });
    } catch (error) {
      if (!error.busy || attempt === ATTEMPTS) throw error;
      const seconds = Math.min(error.seconds * 2 ** (attempt - 1), LONGEST_WAIT);
      tell(`${sentence(error.message)} Trying again in ${seconds} s.`);
      await pause(seconds * 1000);
      signal?.throwIfAborted();
    }
  }
}

/**
 * Ask for one image's answer from the models that `choice()` names when the request is made; every class up to `top` is
 * in it.
 */
function predict(image, choice, top, signal, tell) {
  const body = () => {
    const form = new FormData();
    for (const [name, value] of Object.entries({ ...choice(), top_k: top, return_members: true })) {
      for (const one of [value].flat()) form.append(name, one);
    }
    form.append("images", image, image.name ?? "drawing.png");
    return form;
  };
  return callPatiently("predict_image", { body, signal }, tell);
}

/**
 * Return a function that does `work(signal)` once it has not been called for some milliseconds. A newer call aborts an
 * older one, whatever that one still waits for, so no answer is seen that is not the latest question's. A call while
 * `sliding` lets the older one end and is then made up for, once, so that answers come although the calls do not stop.
 */
function newest(milliseconds, work, failed) {
  let controller = new AbortController();
  let [running, again] = [false, false];
  return async function ask({ sliding = false } = {}) {
    again = sliding && running;
    if (again) return;
    running = true;
    controller.abort();
    controller = new AbortController();
    const { signal } = controller;
    try {
      await pause(milliseconds);
      if (!signal.aborted) await work(signal);
    } catch (error) {
      if (!signal.aborted) failed(error);
    } finally {
      if (!signal.aborted) {
        running = false;
        if (again) ask();
      }
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
