// The page as a whole: an image and a choice in, the server's answer out.

const MOST_CLASSES = 100; // asked for at once; of thousands, most would be noughts
const WAIT_ANSWER = 60; // milliseconds without a change before asking
const WAIT_MEMBERS = 120;
const WAIT_IDLE = 400; // before anything more is asked that nobody chose
const FILL = 4; // places at a time
const MOST_FILLS = 12;
const NEEDS_MEMBER = "Tick at least one member, with a weight above 0.";

const top = () => Math.min(bundle.labels.length, MOST_CLASSES);
const tell = (message) => notify(message);
/** What the chart is drawn for. */
const question = () => `${picture.version} ${domain()}`;

const askForAnswer = newest(
  WAIT_ANSWER,
  async (signal) => {
    waiting(byId("answer-card"), true);
    const [version, image] = [picture.version, await imageFile()];
    if (signal.aborted) return;
    if (image && choice()) {
      const answer = await predict(image, choice, top(), signal, tell);
      notify();
      showAnswer(answer, version);
      askForDrift(answer.model, signal).catch((error) => signal.aborted || failed(error));
      if (bundle.subspace && mode() === "point" && alongQuestion === question()) showAlong(answer);
    } else {
      notify();
      showNoAnswer(image ? NEEDS_MEMBER : undefined);
    }
    waiting(byId("answer-card"), false);
  },
  (error) => {
    showNoAnswer("There is no answer.");
    waiting(byId("answer-card"), false);
    failed(error);
  },
);

/**
 * Every point's own answer, once a question, for the chart: it stays while one slides along it. Then, while nothing is
 * chosen, what the other statistics make of the image, and more places for the chart.
 */
const askForMembers = newest(
  WAIT_MEMBERS,
  async (signal) => {
    const image = await imageFile();
    if (signal.aborted) return;
    const ask = (chosen, told = () => {}) => predict(image, () => chosen, top(), signal, told);
    if (image) {
      for (const members of missingPoints()) {
        try {
          showAlong(await ask(withDomain({ members }), tell));
        } catch (error) {
          // A domain's statistics are an extra for each point: where these cannot be had, the others must do.
          const isOfThese = error instanceof Refused && error.status >= 400 && error.status < 500 && !error.busy;
          if (!domain() || !isOfThese) throw error;
        }
      }
      if (!byId("notice").classList.contains("error")) notify(); // what `tell` said of waiting is over
    }
    if (alongQuestion !== question() || !image) {
      forgetMembers();
      drawChart();
    }
    waiting(byId("along"), false);
    if (!image || !bundle.subspace) return;
    try {
      await pause(WAIT_IDLE);
      signal.throwIfAborted();
      await askForSets(ask);
      for (let fill = 0; bundle.line && fill < MOST_FILLS; fill++) {
        const members = nextPlaces(FILL);
        if (!members.length) return;
        await pause(WAIT_IDLE);
        signal.throwIfAborted();
        showAlong(await ask(withDomain({ members })));
      }
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      // Nobody asked for this: what is there must do, unless it belongs to an earlier question.
      byId("sets").hidden ||= byId("sets").ariaBusy === "true";
    }
  },
  (error) => {
    forgetMembers();
    drawChart();
    failed(error);
  },
);

function showAlong(answer) {
  keepMembers(answer, question());
  recolour(picture.version);
  drawChart();
}

function askForBoth() {
  waiting(byId("answer-card"), true);
  waiting(byId("along"), true);
  waiting(byId("sets"), true);
  askForAnswer();
  askForMembers();
}

function askAgainForAnswer(how) {
  waiting(byId("answer-card"), true);
  drawChart();
  askForAnswer(how);
  if (!bundle.subspace) return;
  waiting(byId("along"), alongQuestion !== question());
  waiting(byId("sets"), true);
  askForMembers();
}

/** What stands there belongs to an earlier question: say so until the new answer is there. */
function waiting(part, busy) {
  part.classList.toggle("waiting", busy);
  part.ariaBusy = String(busy);
}

function failed(error) {
  if (!(error instanceof Refused)) {
    notify("The page made a mistake; its console has the reason.", { error: true });
    throw error;
  }
  if (error.status === 401) return askForToken(error);
  const id = error.id ? ` (request ${error.id})` : "";
  const hopeful = error.status === 0 || error.status === 429 || error.status >= 500;
  notify(sentence(error.message) + id, { error: true, again: hopeful ? start : null });
  // The server may have another bundle by now.
  if (error.status === 404 && bundle.input) load().catch(() => {});
}

function askForToken(error) {
  notify(sentence(error.message));
  byId("access").hidden = false;
  byId("token").focus();
}

byId("access").addEventListener("submit", (event) => {
  event.preventDefault();
  token = byId("token").value.trim();
  byId("token").value = "";
  byId("access").hidden = true;
  notify();
  start();
});

/** Ask which models there are; where they are others than before, begin with them. */
async function load() {
  const answer = await callPatiently("models", {}, tell);
  if (bundle.input && answer.bundle?.sha256 === bundle.sha256) return;
  forgetMembers();
  byId("main").hidden = false;
  startModels(answer, askAgainForAnswer);
  if (JSON.stringify(picture.input) === JSON.stringify(answer.input)) askForBoth();
  else startPicture(answer.input, askForBoth);
  const count = (number, what) => `${number} ${what}${number === 1 ? "" : what.endsWith("s") ? "es" : "s"}`;
  const holds = [
    count(bundle.points.length, "point"),
    count(bundle.ensembles.length, "ensemble"),
    ...(bundle.domains.length ? [count(bundle.domains.length, "domain")] : []),
    count(bundle.labels.length, "class"),
  ];
  const name = bundle.sha256 ? `Bundle ${bundle.sha256.slice(0, 12)}` : "This bundle";
  byId("bundle").textContent = `${name}: ${holds.join(", ")}.`;
}

async function start() {
  try {
    const known = Boolean(bundle.input);
    await load();
    notify();
    if (known) askForBoth();
  } catch (error) {
    failed(error);
  }
}

start();
