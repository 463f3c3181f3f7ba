// The image: a file, something pasted or dropped, an example, or a drawing. A file is sent as it is; the canvas shows
// how it is cut, and drawing on it makes the canvas itself what is sent.

// From here on, the service cuts a border from images of another size, so the canvas has exactly the model's.
const BORDER_FROM = 128;
const CANVAS_SIDE = 256;

const picture = { file: null, drawn: false, version: 0, input: null, changed: () => {} };
const canvas = byId("canvas");
const pen = canvas.getContext("2d", { willReadFrequently: true });

/** Fit the canvas to the models' input and let people use it; `changed` is called after every change of the image. */
function startPicture(input, changed) {
  const side = Math.min(input.height, input.width);
  const scale = side >= BORDER_FROM ? 1 : Math.ceil(CANVAS_SIDE / side);
  Object.assign(picture, { input, changed });
  Object.assign(canvas, { width: input.width * scale, height: input.height * scale });
  Object.assign(byId("preview"), { width: input.width, height: input.height });
  byId("seen-size").textContent = `${input.width} × ${input.height}`;
  byId("colour").hidden = input.channels === 1;
  // A pen of a little over a pixel of the network's, or it would hardly see it.
  byId("width").value = Math.max(0.09, 1.25 / side);
  byId("samples").replaceChildren(...samplesFor(input.channels).map(sampleButton));
  erase();
  imageChanged({});
}

/** Return what is sent, a file or the canvas as PNG, or null while there is no image. */
async function imageFile() {
  if (picture.file || !picture.drawn) return picture.file;
  const version = picture.version;
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  if (version === picture.version) picture.file = blob;
  return blob;
}

function erase() {
  pen.fillStyle = ground();
  pen.fillRect(0, 0, canvas.width, canvas.height);
}

/** Models of one channel have seen white on black; colours are drawn on white paper. */
function ground() {
  return picture.input.channels === 1 ? "#000" : "#fff";
}

function ink() {
  if (byId("eraser").checked) return ground();
  return picture.input.channels === 1 ? "#fff" : byId("colour").value;
}

function advice() {
  const { channels, width, height } = picture.input;
  if (channels === 1) return "White on black, filling the frame, is what these networks know.";
  return `Any size will do; the middle is cut out and becomes ${width} × ${height} pixels.`;
}

function imageChanged({ file = null, drawn = false, caption = "" }) {
  Object.assign(picture, { file, drawn, version: picture.version + 1 });
  const any = Boolean(file || drawn);
  byId("invitation").hidden = any;
  byId("caption").textContent = any ? caption : advice();
  canvas.setAttribute("aria-label", any ? caption || "A drawing" : "Nothing chosen yet");
  showPreview();
  picture.changed();
}

async function chooseFile(file) {
  if (!picture.input) return;
  erase();
  imageChanged({ file, caption: file.name || "a pasted image" });
  const version = picture.version;
  try {
    const bitmap = await createImageBitmap(file); // turned as the camera says
    if (version !== picture.version) return;
    drawCovering(bitmap);
    showPreview();
  } catch {
    // TIFF, for one, is for the server to read; what is no image at all, it will refuse.
    if (version !== picture.version) return;
    byId("caption").textContent += " (this browser has no preview of it)";
    byId("seen").hidden = true;
  }
}

/** Draw a bitmap as the service cuts it: around its centre, in the model's proportions. */
function drawCovering(bitmap) {
  const border = canvas.width === picture.input.width ? 224 / 256 : 1;
  const scale = Math.max(canvas.width / bitmap.width, canvas.height / bitmap.height) / border;
  const [width, height] = [bitmap.width * scale, bitmap.height * scale];
  if (picture.input.channels === 1) pen.filter = "grayscale(1)";
  pen.imageSmoothingQuality = "high";
  pen.drawImage(bitmap, (canvas.width - width) / 2, (canvas.height - height) / 2, width, height);
  pen.filter = "none";
}

function showPreview() {
  const preview = byId("preview");
  byId("seen").hidden = !(picture.file || picture.drawn) || canvas.width === preview.width;
  const context = preview.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(canvas, 0, 0, preview.width, preview.height);
}

// Drawing

let stroke = null;

function pointAt(event) {
  const box = canvas.getBoundingClientRect();
  return [
    ((event.clientX - box.left) / box.width) * canvas.width,
    ((event.clientY - box.top) / box.height) * canvas.height,
  ];
}

function drawTo(event) {
  const [x, y] = pointAt(event);
  Object.assign(pen, { strokeStyle: ink(), lineCap: "round", lineJoin: "round" });
  pen.lineWidth = byId("width").value * Math.min(canvas.width, canvas.height);
  pen.beginPath();
  pen.moveTo(...stroke);
  pen.lineTo(x, y);
  pen.stroke();
  stroke = [x, y];
  imageChanged({ drawn: true });
}

canvas.addEventListener("pointerdown", (event) => {
  if (event.button !== 0 || !picture.input) return;
  event.preventDefault();
  canvas.setPointerCapture(event.pointerId);
  stroke = pointAt(event);
  drawTo(event);
});
canvas.addEventListener("pointermove", (event) => {
  if (!stroke) return;
  for (const one of event.getCoalescedEvents?.() ?? [event]) drawTo(one);
});
for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => (stroke = null));

byId("clear").addEventListener("click", () => {
  erase();
  imageChanged({});
});

// Choosing, dropping, pasting

byId("file").addEventListener("change", (event) => {
  const [file] = event.target.files;
  if (file) chooseFile(file);
  event.target.value = ""; // so that the same file can be chosen again
});
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  byId("stage").classList.add("over");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) byId("stage").classList.remove("over");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  byId("stage").classList.remove("over");
  const [file] = event.dataTransfer.files;
  if (file) chooseFile(file);
});
document.addEventListener("paste", (event) => {
  const [file] = event.clipboardData?.files ?? [];
  if (!file) return;
  event.preventDefault();
  chooseFile(file);
});
