// The buttons of playing, and what says where it plays and how loud.

import { change, part, press } from "./elements.js";
import { clock } from "./times.js";

const STEP = 5; // seconds of an arrow key, or a tenth of what is shown where that is less

export class Transport {
  // selection() -> the stretch that a loop plays, or null for all
  constructor(root, player, timeline, tracks, selection) {
    Object.assign(this, { root, player, timeline, tracks, selection });
    part(root, "play").addEventListener("click", () => this.toggle());
    part(root, "ab").addEventListener("click", () => this.compare());
    part(root, "loop").addEventListener("click", () => this.toggleLoop());
  }

  toggle() {
    if (this.player.playing) this.player.pause();
    else this.player.play();
  }

  compare() {
    this.player.compare(press(part(this.root, "ab")));
  }

  toggleLoop() {
    if (press(part(this.root, "loop"))) this.loop();
    else this.player.setLoop(null);
  }

  // The stretch is another one.
  loop() {
    if (part(this.root, "loop").ariaPressed !== "true") return;
    this.player.setLoop(this.selection() ?? [0, this.timeline.total]);
  }

  // By the keyboard, which sees where it goes. steps: of the arrow keys.
  step(steps) {
    const { timeline } = this;
    const step = timeline.zoomed ? Math.min(STEP, timeline.seconds / 10) : STEP;
    this.seek(this.player.position() + steps * step);
  }

  seek(second) {
    this.player.seek(second);
    this.timeline.reveal(this.player.position());
  }

  // With each frame.
  show() {
    const { root, player, timeline } = this;
    const second = player.position();
    if (timeline.has(this.before)) timeline.reveal(second); // follows what plays, unless one looks elsewhere
    this.before = second;
    const left = `${round(timeline.percent(second))}%`;
    for (const head of root.querySelectorAll(".studio-playhead")) change(head.style, "left", left);
    change(part(root, "head").style, "left", `${round((100 * second) / timeline.total)}%`);
    const end = player.late ? "loading" : clock(timeline.total, 1);
    change(part(root, "time"), "textContent", `${clock(second, 1)} / ${end}`);
    change(part(root, "play"), "textContent", player.playing ? "Pause" : "Play");
    change(part(root, "main"), "ariaValueNow", second.toFixed(1));
    change(part(root, "main"), "ariaValueText", clock(second, 1));
    for (const { track, row } of this.tracks) {
      const level = player.playing ? player.level(track.id) : -Infinity;
      const width = `${Math.round(Math.max(0, Math.min(100, (level + 60) / 0.6)))}%`;
      change(row.querySelector(".studio-level div").style, "width", width);
    }
  }
}

function round(value) {
  return Math.round(100 * value) / 100;
}
