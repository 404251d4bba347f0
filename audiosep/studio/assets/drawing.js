// Draws a recording: its peaks above, its spectrogram below, and the spans in which it sounds.

const WAVE = 0.55; // of the height
const COLOURS = [[0, 0, 4], [60, 15, 112], [140, 41, 129], [222, 73, 104], [254, 159, 109], [252, 253, 191]];
const PALETTE = new Uint32Array(new Uint8ClampedArray(
  Array.from({ length: 256 }, (_, level) => [...colour(level / 255), 255]).flat()).buffer);

export function decode(view) {
  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const found = { ...view, peaks: new Int8Array(bytes(view.peaks).buffer), levels: bytes(view.levels) };
  return { ...found, picture: spectrogram(found) };
}

// view: of `decode`, or null; place: {start, seconds, total}; spans: [[start, end], ...] in seconds.
export function draw(canvas, view, place, spans) {
  const scale = devicePixelRatio || 1;
  const width = (canvas.width = Math.max(1, Math.round(canvas.clientWidth * scale)));
  const height = (canvas.height = Math.max(1, Math.round(canvas.clientHeight * scale)));
  const paint = canvas.getContext("2d");
  const style = getComputedStyle(canvas);
  const at = (second) => (second / place.total) * width;
  paint.fillStyle = style.getPropertyValue("--studio-span");
  for (const [start, end] of spans) paint.fillRect(at(start), 0, Math.max(scale, at(end) - at(start)), height * WAVE);
  if (!view) return;
  const left = at(place.start);
  const wide = at(place.seconds);
  wave(paint, view, left, wide, (height * WAVE) / 2, style.color);
  paint.imageSmoothingEnabled = false;
  paint.drawImage(view.picture, left, height * WAVE, wide, height * (1 - WAVE));
}

function wave(paint, view, left, wide, middle, colour) {
  paint.fillStyle = colour;
  const step = wide / view.columns;
  for (let column = 0; column < view.columns; column++) {
    const low = view.peaks[2 * column] / 127;
    const high = view.peaks[2 * column + 1] / 127;
    const top = middle * (1 - high);
    paint.fillRect(left + column * step, top, Math.max(1, step), Math.max(1, middle * (high - low)));
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
