// The buttons of the zoom, and the strip that says and chooses which part of the recording is shown.

import { part } from "./elements.js";
import { clock } from "./times.js";

const CLOSER = 2; // factor of the buttons and keys
const AROUND = 0.25; // of a marked stretch that is shown on each side of it

export class Zoom {
  constructor(root, timeline, player, marking) {
    Object.assign(this, { root, timeline, player, marking });
    const on = (name, action) => part(root, name).addEventListener("click", action);
    on("zoom-in", () => this.closer());
    on("zoom-out", () => this.wider());
    on("zoom-mark", () => this.mark());
    on("zoom-all", () => this.all());
    part(root, "scroll").addEventListener("input", (event) => {
      timeline.show(Number(event.target.value) - timeline.seconds / 2);
    });
  }

  closer() {
    this.#by(CLOSER);
  }

  wider() {
    this.#by(1 / CLOSER);
  }

  mark() {
    const selection = this.marking.needed();
    if (!selection) return;
    const [start, end] = selection;
    const around = AROUND * (end - start);
    this.timeline.show(start - around, end - start + 2 * around);
  }

  all() {
    this.timeline.show(0, this.timeline.total);
  }

  show() {
    const { timeline } = this;
    const scroll = part(this.root, "scroll");
    scroll.step = timeline.seconds / 2;
    scroll.value = timeline.start + timeline.seconds / 2;
    scroll.ariaValueText = `${clock(timeline.start, 1)} to ${clock(timeline.end, 1)}`;
    part(this.root, "strip").classList.toggle("studio-unused", !timeline.zoomed);
    scroll.disabled = !timeline.zoomed;
    const { style } = part(this.root, "shown");
    style.left = `${(100 * timeline.start) / timeline.total}%`;
    style.width = `${(100 * timeline.seconds) / timeline.total}%`;
  }

  // Around the place of playing where it is shown, else around the middle.
  #by(factor) {
    const { timeline } = this;
    const second = this.player.position();
    timeline.zoom(factor, timeline.has(second) ? second : timeline.start + timeline.seconds / 2);
  }
}
