// The tracks: a row for each, with its level, its buttons and its picture. The rest is the last one.

import { button, press } from "./elements.js";
import { REST } from "./player.js";
import { spanText } from "./times.js";

const SOFTEST = -40; // dB of the slider, where it means silence
const LOUDEST = 12;

export class Tracks {
  // list: of the rows; format: the menu of formats; download(id), remove(id): by the buttons of a track
  constructor(list, format, player, timeline, { download, remove }) {
    Object.assign(this, { list, format, player, timeline, download, remove });
    this.all = new Map(); // id -> {track, view of all, detail or null: of what is shown, row}
    this.chosen = 0;
  }

  get(id) {
    return this.all.get(id);
  }

  [Symbol.iterator]() {
    return this.all.values();
  }

  clear() {
    this.keep([]);
    this.chosen = 0;
  }

  // Drops all but these.
  keep(ids) {
    for (const id of [...this.all.keys()]) if (!ids.includes(id)) this.#drop(id);
  }

  // A new track, or another state of one.
  show(track) {
    const known = this.all.has(track.id);
    if (!known) this.add(track);
    const one = this.all.get(track.id);
    one.track = track;
    this.player.add(track); // heard before it is drawn
    if (!known && !track.complete && !this.player.playing) this.player.seek(track.start);
    one.row.querySelector(".studio-track-about").textContent = about(track);
    one.row.classList.toggle("studio-preview", !track.complete);
    one.row.dataset.complete = track.complete;
    this.showFormat();
    return one;
  }

  add(track) {
    const row = document.createElement("li");
    row.className = "studio-track";
    row.dataset.track = track.id;
    row.innerHTML = `
      <div>
        <div class="studio-track-name"></div><div class="studio-track-about"></div>
        <div class="studio-controls">
          <button type="button" class="studio-mute" aria-pressed="false" aria-keyshortcuts="M">Mute</button>
          <button type="button" class="studio-solo" aria-pressed="false" aria-keyshortcuts="S">Solo</button>
          <input type="range" class="studio-gain" min="${SOFTEST}" max="${LOUDEST}" step="0.5" value="0" />
          <span class="studio-decibels" aria-hidden="true">0 dB</span>
        </div>
        <div class="studio-level" aria-hidden="true"><div></div></div>
        <div class="studio-controls studio-files"></div>
      </div>
      <div class="studio-canvas" aria-hidden="true"><canvas></canvas><div class="studio-playhead"></div></div>`;
    row.querySelector(".studio-track-name").textContent = track.name;
    const canvas = row.querySelector(".studio-canvas");
    canvas.addEventListener("click", (event) => this.player.seek(this.timeline.second(event)));
    this.timeline.listen(canvas);
    row.addEventListener("focusin", () => this.#chooseTrack(track.id));
    this.#bind(track, row);
    if (track.id !== REST) {
      const get = button("", () => this.download(track.id));
      const remove = button("Remove", () => this.remove(track.id));
      get.classList.add("studio-get");
      remove.ariaLabel = `Remove ${track.name}`;
      row.querySelector(".studio-files").append(get, remove);
      this.list.insertBefore(row, this.all.get(REST)?.row ?? null);
    } else {
      this.list.append(row);
    }
    const rest = this.all.get(REST);
    this.all.delete(REST); // stays the last
    this.all.set(track.id, { track, view: null, detail: null, row });
    if (rest) this.all.set(REST, rest);
    this.choose(this.chosen);
  }

  #bind(track, row) {
    const mute = row.querySelector(".studio-mute");
    const solo = row.querySelector(".studio-solo");
    const slider = row.querySelector(".studio-gain");
    mute.ariaLabel = `Mute ${track.name}`;
    solo.ariaLabel = `Solo: play ${track.name} alone`;
    slider.ariaLabel = `Level of ${track.name}`;
    slider.ariaValueText = "0 dB";
    mute.addEventListener("click", () => this.player.set(track.id, { mute: press(mute) }));
    solo.addEventListener("click", () => this.player.set(track.id, { solo: press(solo) }));
    slider.addEventListener("input", () => {
      const decibels = Number(slider.value);
      this.player.set(track.id, { decibels: decibels <= SOFTEST ? -Infinity : decibels });
      slider.ariaValueText = decibels <= SOFTEST ? "silent" : `${decibels} dB`;
      row.querySelector(".studio-decibels").textContent = slider.ariaValueText;
    });
  }

  #drop(id) {
    const { row } = this.all.get(id);
    const next = row.contains(document.activeElement) ? row.nextElementSibling : null;
    row.remove();
    this.all.delete(id);
    next?.querySelector("button")?.focus({ preventScroll: true }); // for those who go by the keyboard
    this.player.remove(id);
    this.choose(Math.min(this.chosen, this.all.size - 1));
  }

  choose(index) {
    this.chosen = Math.max(0, index);
    [...this].forEach((one, at) => one.row.classList.toggle("studio-chosen", at === this.chosen));
  }

  #chooseTrack(id) {
    this.choose([...this.all.keys()].indexOf(id));
  }

  // Clicks "mute" or "solo" of the chosen track.
  click(name) {
    [...this][this.chosen]?.row.querySelector(`.studio-${name}`).click();
  }

  // Shows a track where it is; its name.
  point(id) {
    const { track, row } = this.all.get(id);
    this.#chooseTrack(id);
    row.scrollIntoView({ block: "nearest" });
    return track.name;
  }

  showFormat() {
    const format = this.format.value;
    for (const { track, row } of this) {
      const get = row.querySelector(".studio-get");
      if (!get) continue;
      get.textContent = `Download ${format}`;
      get.ariaLabel = `Download ${format} of ${track.name}`;
      get.disabled = !track.complete;
    }
  }

  // Linear gains, as the mix is heard.
  levels() {
    const gains = {};
    for (const id of this.all.keys()) if (id !== REST) gains[id] = this.player.gain(id);
    return { gains, rest: this.player.gain(REST) };
  }

  // How the rows are set, for `set`.
  settings() {
    return [...this.all].map(([id, { row }]) => {
      const [mute, solo] = ["mute", "solo"].map((name) => row.querySelector(`.studio-${name}`).ariaPressed);
      return { id, mute, solo, gain: row.querySelector(".studio-gain").value };
    });
  }

  set(settings) {
    for (const one of settings) {
      const row = this.all.get(one.id)?.row;
      if (!row) continue;
      for (const name of ["mute", "solo"]) if (one[name] === "true") row.querySelector(`.studio-${name}`).click();
      const slider = row.querySelector(".studio-gain");
      slider.value = one.gain;
      slider.dispatchEvent(new Event("input"));
    }
  }
}

function about(track) {
  const parts = [track.complete ? "" : "preview", track.origin === "stems" ? "stem" : ""];
  if (track.presence !== null) parts.push(`${Math.round(track.presence * 100)}% sure that the recording has it`);
  if (track.spans.length) parts.push(`at ${spanText(track.spans)}`);
  return parts.filter(Boolean).join(", ");
}
