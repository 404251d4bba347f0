// The pictures of the recording and of its tracks, fetched for the width that is shown and again where they are too
// coarse for it.

import { decode, draw, ruler } from "./drawing.js";
import { part } from "./elements.js";
import { MIX } from "./player.js";
import { clock } from "./times.js";

const SETTLED = 150; // ms without a change of what is shown, after which it is fetched more exactly
const FEWEST = 100; // columns of a picture
const MOST = 4000;

export class Pictures {
  // marked() -> spans that are painted over the recording
  constructor(root, server, timeline, tracks, marked) {
    Object.assign(this, { root, server, timeline, tracks, marked });
    this.row = part(root, "main");
    this.main = null; // of the recording, what `tracks` has of each track
    this.painting = null; // spans, where something is to be drawn
  }

  close() {
    this.main = null;
  }

  // Fetches the picture of the recording; whether there is one: where not, it is asked for again with the next state.
  async open() {
    const track = { id: MIX, start: 0, seconds: this.timeline.total, spans: [] };
    const view = await this.#fetched(track).catch(() => null);
    if (view) this.main = { track, detail: null, row: this.row, view };
    return view !== null;
  }

  // Fetches the picture of a track as it is now; whether there is one: it was removed meanwhile, or is asked for again
  // with the next state.
  async show(one, version) {
    const view = await this.#fetched(one.track).catch(() => null);
    if (view) Object.assign(one, { view, detail: null, drawn: version });
    return view !== null;
  }

  // Other pictures are drawn with the next frame, however often this is called before.
  paint(spans = this.marked()) {
    this.painting = spans;
  }

  // Another part of the recording is shown, or with other pictures.
  moved() {
    this.paint();
    clearTimeout(this.settling);
    this.settling = setTimeout(() => this.#refine(), SETTLED);
  }

  // With each frame.
  draw() {
    if (!this.painting || !this.main) return;
    const { main, timeline } = this;
    const canvas = (row) => row.querySelector("canvas");
    for (const { track, view, detail, row } of [main, ...this.tracks]) {
      const views = [view, detail].filter(Boolean);
      draw(canvas(row), views, timeline, row === main.row ? this.painting : track.spans);
    }
    ruler(part(this.root, "ruler"), timeline, clock);
    draw(canvas(part(this.root, "strip")), [main.view], { start: 0, seconds: timeline.total }, this.painting);
    this.painting = null;
  }

  // Of a track, or of a part of it in seconds of the recording, for the width that is shown.
  async #fetched(track, from = track.start, to = track.start + track.seconds, seconds = this.timeline.total) {
    const columns = Math.ceil((this.row.clientWidth * (to - from)) / seconds);
    const most = Math.max(FEWEST, Math.min(MOST, columns));
    return decode(await this.server.view(track.id, from - track.start, to - track.start, most), track.start);
  }

  // Fetches what is shown, and half of that on each side, where the pictures are too coarse.
  async #refine() {
    if (!this.main) return;
    const { start, seconds, end } = this.timeline;
    for (const one of [this.main, ...this.tracks]) {
      const { track, view } = one;
      const [first, last] = [track.start, track.start + track.seconds];
      const [from, to] = [Math.max(first, start), Math.min(last, end)];
      const fine = (2 * seconds) / this.row.clientWidth; // seconds of a column
      const shows = (picture) => picture?.start <= from && picture.end >= to && picture.step <= fine;
      if (!view || to <= from || shows(view) || shows(one.detail)) continue;
      const wider = [Math.max(first, start - seconds / 2), Math.min(last, end + seconds / 2)];
      const detail = await this.#fetched(track, ...wider, seconds).catch(() => null);
      if (this.timeline.start !== start || this.timeline.seconds !== seconds) return; // another is on its way
      if (one.view === view && detail) one.detail = detail;
      this.paint();
    }
  }
}
