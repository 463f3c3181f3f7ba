// Examples: paths on a square of 100, drawn with the pen's width, or filled

const LINES = [
  ["zero", "M50 8C22 8 22 92 50 92S78 8 50 8Z"],
  ["three", "M28 16C44 2 74 8 70 28 67 44 50 46 44 47 58 47 76 54 73 74 70 94 40 96 26 82"],
  ["seven", "M24 11H75C60 36 48 62 43 92M34 52H66"],
  ["four or nine?", "M64 92C68 66 68 36 66 10 52 22 36 34 30 54 44 62 60 58 68 50"],
];
const SHAPES = [["shirt", "M34 10 4 34 18 52 28 44V92H72V44L82 52 96 34 66 10C60 20 40 20 34 10Z"]];
const COLOURED = [
  [
    "sunset",
    [
      ["#35507a", 0],
      ["#e5894e", 0.55],
      ["#f5cf76", 0.62],
      ["#22394d", 0.64],
      ["#0f2233", 1],
    ],
  ],
  [
    "meadow",
    [
      ["#7fb2dc", 0],
      ["#cfe3ee", 0.5],
      ["#7ea650", 0.52],
      ["#3f6f2d", 1],
    ],
  ],
];

function samplesFor(channels) {
  const drawings =
    channels === 1
      ? [
          ...LINES.map(([name, path]) => [name, () => pen.stroke(path2d(path))]),
          ...SHAPES.map(([name, path]) => [name, () => pen.fill(path2d(path))]),
        ]
      : COLOURED.map(([name, stops]) => [name, () => fillGradient(stops)]);
  return [...drawings, ["noise", fillNoise]];
}

function sampleButton([name, draw]) {
  const onclick = () => {
    erase();
    const scale = Math.min(canvas.width, canvas.height) / 100;
    pen.save();
    pen.translate((canvas.width - 100 * scale) / 2, (canvas.height - 100 * scale) / 2);
    pen.scale(scale, scale);
    Object.assign(pen, { strokeStyle: "#fff", fillStyle: "#fff", lineCap: "round", lineJoin: "round" });
    pen.lineWidth = byId("width").value * 100;
    draw();
    pen.restore();
    imageChanged({ drawn: true, caption: `Example: ${name}` });
  };
  return element("button", { type: "button", onclick }, name);
}

const path2d = (path) => new Path2D(path);

function fillGradient(stops) {
  pen.resetTransform();
  const gradient = pen.createLinearGradient(0, 0, 0, canvas.height);
  for (const [colour, offset] of stops) gradient.addColorStop(offset, colour);
  pen.fillStyle = gradient;
  pen.fillRect(0, 0, canvas.width, canvas.height);
}

/** Fill the canvas with noise in squares of the network's pixels, the same each time. */
function fillNoise() {
  pen.resetTransform();
  const side = canvas.width / picture.input.width;
  let seed = 1;
  const random = () => (seed = (seed * 48271) % 2147483647) / 2147483647;
  for (let y = 0; y < canvas.height; y += side) {
    for (let x = 0; x < canvas.width; x += side) {
      const grey = random();
      const colour = picture.input.channels === 1 ? [grey, grey, grey] : [grey, random(), random()];
      pen.fillStyle = `rgb(${colour.map((value) => Math.round(value * 255)).join(" ")})`;
      pen.fillRect(x, y, side, side);
    }
  }
}
