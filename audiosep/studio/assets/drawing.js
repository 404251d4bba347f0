// Draws a recording: its peaks above, its spectrogram below, and the spans in which it sounds.

const WAVE = 0.55; // of the height
const COLOURS = [[0, 0, 4], [60, 15, 112], [140, 41, 129], [222, 73, 104], [254, 159, 109], [252, 253, 191]];
const PALETTE = new Uint32Array(new Uint8ClampedArray(
  Array.from({ length: 256 }, (_, level) => [...colour(level / 255), 255]).flat()).buffer);
const LABEL = 70; // pixels from one label of the ruler to the next at least
const STEPS = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1200, 3600]; // seconds

// offset: seconds at which the track begins in the recording.
export function decode(view, offset = 0) {
  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const peaks = new Int8Array(bytes(view.peaks).buffer);
  const found = { ...view, start: offset + view.start, peaks, levels: bytes(view.levels) };
  return { ...found, end: found.start + view.columns * view.step, picture: spectrogram(found) };
}

// views: of `decode`, later ones in the place of earlier ones; shown: {start, seconds}; spans: [[start, end], ...].
export function draw(canvas, views, shown, spans) {
  const { paint, width, height, scale } = prepared(canvas);
  const style = getComputedStyle(canvas);
  const at = (second) => ((second - shown.start) / shown.seconds) * width;
  for (const view of views) {
    const first = Math.max(0, Math.floor((shown.start - view.start) / view.step));
    const last = Math.min(view.columns, Math.ceil((shown.start + shown.seconds - view.start) / view.step));
    if (last <= first) continue;
    const left = at(view.start + first * view.step);
    const wide = at(view.start + last * view.step) - left;
    paint.clearRect(left, 0, wide, height);
    wave(paint, view, first, last, left, wide, (height * WAVE) / 2, style.color);
    paint.imageSmoothingEnabled = false;
    const top = height * WAVE;
    paint.drawImage(view.picture, first, 0, last - first, view.rows, left, top, wide, height - top);
  }
  paint.fillStyle = style.getPropertyValue("--studio-span");
  for (const [start, end] of spans) paint.fillRect(at(start), 0, Math.max(scale, at(end) - at(start)), height * WAVE);
}

// Draws when is where. label(second, digits) -> text
export function ruler(canvas, shown, label) {
  const { paint, width, height, scale } = prepared(canvas);
  const style = getComputedStyle(canvas);
  const per = (shown.seconds * LABEL * scale) / width;
  const step = STEPS.find((one) => one >= per) ?? STEPS.at(-1);
  paint.fillStyle = style.color;
  paint.font = `${11 * scale}px ${style.fontFamily}`;
  paint.textBaseline = "top";
  for (let count = Math.ceil(shown.start / step); count * step < shown.start + shown.seconds; count++) {
    const x = ((count * step - shown.start) / shown.seconds) * width;
    paint.fillRect(x, 0, scale, height);
    paint.fillText(label(count * step, step < 0.1 ? 2 : step < 1 ? 1 : 0), x + 4 * scale, 2 * scale);
  }
}

// An empty canvas of as many pixels as the screen has there.
function prepared(canvas) {
  const scale = devicePixelRatio || 1;
  const width = (canvas.width = Math.max(1, Math.round(canvas.clientWidth * scale)));
  const height = (canvas.height = Math.max(1, Math.round(canvas.clientHeight * scale)));
  return { paint: canvas.getContext("2d"), width, height, scale };
}

function wave(paint, view, first, last, left, wide, middle, colour) {
  paint.fillStyle = colour;
  const step = wide / (last - first);
  for (let column = first; column < last; column++) {
    const low = view.peaks[2 * column] / 127;
    const high = view.peaks[2 * column + 1] / 127;
    const top = middle * (1 - high);
    const from = Math.floor(left + (column - first) * step); // whole pixels: parts of them would be paler, in bands
    const to = Math.floor(left + (column - first + 1) * step);
    paint.fillRect(from, top, Math.max(1, to - from), Math.max(1, middle * (high - low)));
  }
}

function spectrogram(view) {
  const picture = new OffscreenCanvas(view.columns, view.rows);
  const paint = picture.getContext("2d");
  const image = paint.createImageData(view.columns, view.rows);
  const pixels = new Uint32Array(image.data.buffer);
  view.levels.forEach((level, at) => (pixels[at] = PALETTE[level]));
  paint.putImageData(image, 0, 0);
  return picture;
}

function colour(level) {
  const place = level * (COLOURS.length - 1);
  const index = Math.min(COLOURS.length - 2, Math.floor(place));
  return COLOURS[index].map((value, part) => value + (COLOURS[index + 1][part] - value) * (place - index));
}
