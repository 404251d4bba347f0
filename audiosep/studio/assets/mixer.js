// The page of the studio: what the user sees and does. `server.js` speaks to the server, `player.js` plays.

import { decode, draw } from "./drawing.js";
import { MIX, Player, REST } from "./player.js";
import { Server, uniqueName } from "./server.js";

const SOFTEST = -40; // dB of the slider, where it means silence
const LOUDEST = 12;
const STEP = 5; // seconds of an arrow key
const CLICK = 4; // pixels; a shorter drag is a click
const SHORTEST = 0.01; // seconds of a marked stretch
const NUDGE = 0.1; // seconds of an arrow key in a field of a stretch
const KEPT = "audiosep-mixer";
const FORMAT = "audiosep-format";

export function start(element, style) {
  const link = document.createElement("link");
  link.rel = "stylesheet";
  link.href = style;
  document.head.append(link);
  const root = element.querySelector(".studio");
  root.mixer = new Mixer(root, new URL(".", document.baseURI).pathname);
  root.mixer.begin();
}

class Mixer {
  constructor(root, path) {
    this.root = root;
    this.server = new Server(path);
    this.player = new Player((track, first, count) => this.server.samples(track, first, count));
    this.recording = null;
    this.tracks = new Map(); // id -> {track, view, row}
    this.heard = null;
    this.selection = null; // [start, end] seconds
    this.marks = []; // {kind: "spans" | "not", span}
    this.chosen = 0;
    this.listening = null; // the request that finds what is heard
    this.typing = false; // whether a field of a stretch has been changed and is not judged yet
  }

  part(name) {
    return this.root.querySelector(`.studio-${name}`);
  }

  async begin() {
    this.bind();
    try {
      const state = await this.server.connect();
      const { models, formats, limits } = this.server.about;
      this.part("limits").textContent =
        `Up to ${Math.round(limits.upload_bytes / 2 ** 20)} MiB and ${clock(limits.seconds)}. Nothing leaves this server.`;
      this.part("model").replaceChildren(...models.map((name) => new Option(name, name)));
      this.part("models").hidden = models.length < 2;
      const kept = localStorage.getItem(FORMAT);
      this.part("format").replaceChildren(...formats.map((name) => new Option(name, name, false, name === kept)));
      await this.show(state);
      this.restore();
    } catch (error) {
      this.fail(error);
    }
    addEventListener("pagehide", () => this.keep());
    this.server.watch = (state, error) => {
      if (!state) {
        this.part("job").hidden = true;
        return this.fail((this.lost = error));
      }
      if (this.lost) this.lost = this.fail(); // it is there again
      return this.show(state);
    };
    requestAnimationFrame(() => this.tick());
    this.root.dataset.ready = "yes";
    this.server.follow();
  }

  // ---- what the server says -----------------------------------------------------------------------------------------

  async show(state) {
    const { recording } = state;
    if (recording?.version !== this.recording?.version) await this.showRecording(recording);
    if (!recording) return this.showRunning(state);
    if (state.heard && !this.heard) this.showHeard(state.heard);
    const ids = [REST, ...state.tracks.map((track) => track.id)];
    for (const id of [...this.tracks.keys()]) if (!ids.includes(id)) this.dropTrack(id);
    for (const track of state.tracks) await this.showTrack(track);
    await this.showRest(state.tracks.filter((track) => track.complete));
    this.part("downloads").hidden = !state.tracks.length;
    const stems = state.tracks.filter((track) => track.origin === "stems" && track.complete).map((track) => track.name);
    this.part("save-stems").hidden = !["vocals", "drums", "bass", "other"].every((name) => stems.includes(name));
    this.showRunning(state);
  }

  showRunning(state) {
    const { running, waiting } = state;
    this.part("job").hidden = !running && !waiting.length;
    const behind = waiting.filter((request) => request !== running?.request).length;
    let text = "Waiting for its turn";
    if (running) {
      const stages = { preview: "first 20 seconds", full: "the whole recording", opening: "", listening: "" };
      text = [running.what, stages[running.stage], `${Math.round(running.fraction * 100)}%`].filter(Boolean).join(", ");
      if (running.left !== null) text += `, ${Math.ceil(running.left)} s left`;
      if (behind) text += `; ${behind} waiting`;
      this.part("job").querySelector("progress").value = running.fraction;
    }
    this.part("job-text").textContent = text;
  }

  async showRecording(recording) {
    this.player.close();
    for (const id of [...this.tracks.keys()]) this.dropTrack(id);
    Object.assign(this, { recording, heard: null, selection: null, marks: [], chosen: 0 });
    this.part("recording").hidden = !recording;
    this.part("heard").replaceChildren();
    this.showMarks();
    if (!recording) return;
    this.player.open(recording);
    this.part("name").textContent = `${recording.name}, ${clock(recording.seconds)}, ${recording.rate} Hz, ` +
      `${recording.channels} ${recording.channels === 1 ? "channel" : "channels"}` +
      (recording.channels > 2 ? " (played as their mean)" : "");
    this.part("remarks").textContent = recording.remarks.join("; ");
    this.part("audio-tracks").hidden = recording.audio.length < 2;
    this.part("audio-track").replaceChildren(...recording.audio.map((name, at) => new Option(name, at + 1)));
    this.part("audio-track").value = recording.track;
    this.part("save-video").hidden = !recording.video;
    this.part("main").setAttribute("aria-valuemax", recording.seconds.toFixed(1));
    this.select(null);
    await this.addRow({ id: REST, name: "the rest", origin: "", start: 0, seconds: recording.seconds, spans: [] });
    this.main = decode(await this.server.view(MIX));
    this.paint();
  }

  showHeard(heard) {
    this.heard = heard;
    this.part("heard").replaceChildren(...heard.map((sound) => {
      const chip = button(`${sound.name} ${Math.round(sound.score * 100)}%`, () => this.separate({ text: sound.name }));
      chip.dataset.sound = sound.name;
      chip.title = `Separate ${sound.name}: heard at ${spanText(sound.spans)}`;
      for (const event of ["pointerenter", "focus"]) chip.addEventListener(event, () => this.paint(sound.spans));
      for (const event of ["pointerleave", "blur"]) chip.addEventListener(event, () => this.paint());
      return chip;
    }));
    this.paint();
  }

  async showTrack(track) {
    const known = this.tracks.get(track.id);
    if (known?.drawn === track.version) return;
    if (!known) await this.addRow(track);
    const one = this.tracks.get(track.id);
    one.track = track;
    this.player.add(track); // heard before it is drawn
    if (!known && !track.complete && !this.player.playing) this.player.seek(track.start);
    one.row.querySelector(".studio-track-about").textContent = about(track);
    one.row.classList.toggle("studio-preview", !track.complete);
    one.row.dataset.complete = track.complete;
    this.showFormat();
    const view = await this.server.view(track.id).catch(() => null);
    if (!view) return; // removed meanwhile, or asked for again with the next state
    one.view = decode(view);
    one.drawn = track.version;
    this.paint();
  }

  async showRest(tracks) {
    const version = tracks.map((track) => track.version).join();
    const rest = this.tracks.get(REST);
    if (rest.version === version) return;
    const view = await this.server.view(REST).catch(() => null);
    if (!view) return; // as above
    rest.view = decode(view);
    rest.version = version;
    this.paint();
  }

  // ---- tracks --------------------------------------------------------------------------------------------------------

  async addRow(track) {
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
    row.querySelector(".studio-canvas").addEventListener("pointerdown", (event) => this.player.seek(this.second(event)));
    row.addEventListener("focusin", () => this.choose([...this.tracks.keys()].indexOf(track.id)));
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
    if (track.id !== REST) {
      const get = button("", () => this.download({ kind: "track", track: track.id }));
      const remove = button("Remove", () => this.try(() => this.server.post("remove", { track: track.id })));
      get.classList.add("studio-get");
      remove.ariaLabel = `Remove ${track.name}`;
      row.querySelector(".studio-files").append(get, remove);
      this.part("tracks").insertBefore(row, this.tracks.get(REST)?.row ?? null);
    } else {
      this.part("tracks").append(row);
    }
    const rest = this.tracks.get(REST);
    this.tracks.delete(REST); // stays the last
    this.tracks.set(track.id, { track, view: null, row });
    if (rest) this.tracks.set(REST, rest);
    this.choose(this.chosen);
  }

  dropTrack(id) {
    const row = this.tracks.get(id)?.row;
    const next = row?.contains(document.activeElement) ? row.nextElementSibling : null;
    row?.remove();
    this.tracks.delete(id);
    next?.querySelector("button")?.focus({ preventScroll: true }); // for those who go by the keyboard
    this.player.remove(id);
    this.choose(Math.min(this.chosen, this.tracks.size - 1));
  }

  choose(index) {
    this.chosen = Math.max(0, index);
    [...this.tracks.values()].forEach((one, at) => one.row.classList.toggle("studio-chosen", at === this.chosen));
  }

  showFormat() {
    const format = this.part("format").value;
    for (const { track, row } of this.tracks.values()) {
      const get = row.querySelector(".studio-get");
      if (!get) continue;
      get.textContent = `Download ${format}`;
      get.ariaLabel = `Download ${format} of ${track.name}`;
      get.disabled = !track.complete;
    }
  }

  // ---- what the user does ---------------------------------------------------------------------------------------------

  bind() {
    const on = (name, event, action) => this.part(name).addEventListener(event, action);
    on("file", "change", (event) => this.open(event.target.files));
    on("audio-track", "change", () => this.openTrack());
    const drop = this.part("drop");
    for (const event of ["dragover", "dragleave", "drop"]) {
      this.root.addEventListener(event, (moved) => {
        moved.preventDefault();
        drop.classList.toggle("studio-over", event === "dragover");
        if (event === "drop") this.open(moved.dataTransfer.files);
      });
    }
    on("cancel", "click", () => this.try(() => this.server.post("cancel", {})));
    on("play", "click", () => this.toggle());
    on("ab", "click", () => this.compare());
    on("loop", "click", () => this.toggleLoop());
    on("this", "click", () => this.mark("spans"));
    on("not", "click", () => this.mark("not"));
    this.bindStretch();
    on("format", "change", () => {
      localStorage.setItem(FORMAT, this.part("format").value);
      this.showFormat();
    });
    on("stems", "click", () => this.separate({ stems: true }));
    on("query", "submit", (event) => {
      event.preventDefault();
      const { marks } = this;
      const of = (kind) => marks.filter((mark) => mark.kind === kind).map((mark) => mark.span);
      this.separate({ text: this.part("text").value, spans: of("spans"), not: of("not") }, marks);
    });
    on("save-stems", "click", () => this.download({ kind: "stems" }));
    on("save-all", "click", () => this.download({ kind: "all" }));
    on("save-mix", "click", () => this.download({ kind: "mix", ...this.levels() }));
    on("save-video", "click", () => this.download({ kind: "video", ...this.levels() }));
    this.player.ended = () => this.paint();
    this.bindMain();
    this.root.addEventListener("click", (event) => {
      // After a click of the mouse, unlike one by the keyboard, the space bar plays and does not click again.
      if (event.detail > 0) event.target.closest("button")?.blur();
    });
    document.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.paint()).observe(this.root);
  }

  // What is typed is judged when both fields are left, not between them, or by Enter.
  bindStretch() {
    const fields = this.stretch();
    for (const field of fields) {
      field.addEventListener("input", () => (this.typing = true));
      field.addEventListener("focusout", (event) => {
        const away = document.activeElement === field; // in another window
        if (this.typing && !away && !fields.includes(event.relatedTarget)) this.typed();
      });
      field.addEventListener("keydown", (event) => {
        if (event.key === "Enter") return this.typed();
        const step = { ArrowUp: NUDGE, ArrowDown: -NUDGE }[event.key];
        const moved = parsed(field.value) + step;
        if (!(moved >= 0)) return;
        event.preventDefault();
        field.value = exact(moved);
        this.typed();
      });
    }
  }

  stretch() {
    return ["from", "to"].map((name) => this.part(name));
  }

  bindMain() {
    const main = this.part("main");
    let from = null;
    main.addEventListener("pointerdown", (event) => {
      if (!this.recording) return;
      from = { x: event.clientX, second: this.second(event) };
      main.setPointerCapture(event.pointerId);
    });
    main.addEventListener("pointermove", (event) => {
      if (from && Math.abs(event.clientX - from.x) >= CLICK) {
        this.select([from.second, this.second(event)].sort((a, b) => a - b));
      }
    });
    main.addEventListener("pointerup", (event) => {
      if (from && Math.abs(event.clientX - from.x) < CLICK) this.player.seek(from.second);
      from = null;
    });
    main.addEventListener("pointercancel", () => (from = null));
  }

  second(event) {
    const box = event.currentTarget.getBoundingClientRect();
    const share = (event.clientX - box.left) / box.width;
    return Math.max(0, Math.min(1, share)) * this.recording.seconds;
  }

  key(event) {
    if (!this.recording || event.ctrlKey || event.metaKey || event.altKey) return;
    const { target } = event;
    if (event.key === "Escape" && !target.matches?.("select, .studio-text")) return this.select(null);
    if (target.matches?.("input:not([type=range]):not([type=file]), select, textarea")) return;
    const pressing = target.matches?.("button, summary, a, label");
    const rows = [...this.tracks.values()];
    const row = rows[this.chosen]?.row;
    const actions = {
      " ": () => this.toggle(),
      a: () => this.compare(),
      l: () => this.toggleLoop(),
      m: () => row?.querySelector(".studio-mute").click(),
      s: () => row?.querySelector(".studio-solo").click(),
      ArrowLeft: () => this.player.seek(this.player.position() - STEP),
      ArrowRight: () => this.player.seek(this.player.position() + STEP),
      Home: () => this.player.seek(0),
    };
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if ((key === " " && pressing) || (key.length > 1 && target.matches?.("input"))) return;
    if (/^[1-9]$/.test(key) && Number(key) <= rows.length) this.choose(Number(key) - 1);
    else if (actions[key]) actions[key]();
    else return;
    event.preventDefault();
  }

  async open(files) {
    const [file, ...others] = files;
    if (!file) return;
    const { limits } = this.server.about;
    await this.try(async () => {
      if (file.size > limits.upload_bytes) throw new Error(`${file.name} is larger than the studio takes.`);
      const path = await this.server.upload(file, (done) => this.say(`Uploading ${file.name}: ${Math.round(done * 100)}%`));
      this.say("");
      await this.server.ask(uniqueName(), "open", path, file.name);
      this.listen();
    });
    this.say(others.length ? `One recording at a time: of ${others.length + 1} files only ${file.name} was taken.` : "");
    this.part("file").value = "";
  }

  // Opens the recording again with another of its audio tracks.
  async openTrack() {
    await this.try(async () => {
      await this.server.ask(uniqueName(), "open_track", Number(this.part("audio-track").value));
      this.listen();
    });
    this.part("audio-track").value = this.recording.track; // where it could not be read
  }

  // Listens for suggestions, while nothing else is wanted.
  async listen() {
    const request = (this.listening = uniqueName());
    await this.server.ask(request, "listen", this.part("model").value).catch(() => {});
    if (this.listening === request) this.listening = null;
  }

  // The marks of a query are taken away when it is answered; further ones may have come by then.
  async separate(wanted, marks = []) {
    const from = this.player.playing || this.player.at ? this.player.position() : null;
    const model = this.part("model").value;
    const { listening, recording } = this;
    await this.try(async () => {
      if (this.part("job").hidden) this.showRunning({ running: null, waiting: [""] }); // before the server has answered
      if (listening) await this.server.post("cancel", { request: listening });
      const asked = JSON.stringify({ ...wanted, model, ...(from === null ? {} : { from }) });
      const there = await this.server.ask(uniqueName(), "separate", asked);
      if (this.recording !== recording) return;
      if (this.tracks.has(there)) this.point(there);
      else this.say(wanted.stems ? "The stems are there." : `${wanted.text.trim() || "The sound"} is there.`);
      this.marks = this.marks.filter((mark) => !marks.includes(mark));
      this.showMarks();
    });
    if (this.recording === recording && listening && !this.heard && [null, listening].includes(this.listening)) {
      this.listen();
    }
  }

  point(id) {
    const { track, row } = this.tracks.get(id);
    this.choose([...this.tracks.keys()].indexOf(id));
    row.scrollIntoView({ block: "nearest" });
    this.say(`There is a track of this already: ${track.name}.`);
  }

  async download(wanted) {
    let remarks = [];
    await this.try(async () => {
      this.say("Writing the file");
      const made = await this.server.post("files", { ...wanted, format: this.part("format").value });
      remarks = made.remarks;
      const link = document.createElement("a");
      link.href = this.server.url(`files/${made.key}`);
      link.download = "";
      link.click();
    });
    this.say(remarks.join("; "));
  }

  levels() {
    const gains = {};
    for (const id of this.tracks.keys()) if (id !== REST) gains[id] = this.player.gain(id);
    return { gains, rest: this.player.gain(REST) };
  }

  toggle() {
    if (this.player.playing) this.player.pause();
    else this.player.play();
  }

  compare() {
    this.player.compare(press(this.part("ab")));
  }

  toggleLoop() {
    const looping = press(this.part("loop"));
    this.player.setLoop(looping ? this.selection ?? [0, this.recording.seconds] : null);
  }

  select(selection) {
    this.fail();
    this.selection = selection && selection[1] - selection[0] > SHORTEST ? selection : null;
    const box = this.part("selection");
    box.hidden = !this.selection;
    if (this.selection) {
      const [start, end] = this.selection.map((second) => (100 * second) / this.recording.seconds);
      box.style.left = `${start}%`;
      box.style.width = `${end - start}%`;
    }
    this.typing = false;
    this.stretch().forEach((field, at) => (field.value = this.selection ? exact(this.selection[at]) : ""));
    if (this.part("loop").ariaPressed === "true") this.player.setLoop(this.selection ?? [0, this.recording.seconds]);
  }

  typed() {
    const fields = this.stretch();
    const typed = fields.map((field) => field.value);
    const [from, to] = typed.map(parsed);
    const end = Math.min(to, this.recording.seconds);
    if (from >= 0 && end - from > SHORTEST) return this.select([from, end]);
    this.select(null);
    fields.forEach((field, at) => (field.value = typed[at])); // stays, to be mended
    if (typed.some((text) => !text.trim())) return; // not all is typed
    this.fail(new Error("A stretch begins within the recording and ends after that: type seconds, or minutes:seconds."));
  }

  mark(kind) {
    if (!this.selection) {
      return this.fail(new Error("Mark a stretch first: drag over the waveform, or type where it begins and ends."));
    }
    this.fail();
    const span = this.selection.map((second) => Math.round(second * 1000) / 1000);
    this.marks = [...this.marks, { kind, span }];
    this.showMarks();
  }

  showMarks() {
    this.part("marks").replaceChildren(...this.marks.map((mark) => {
      const chip = button(`${mark.kind === "not" ? "not this" : "this sound"} ${spanText([mark.span])} ×`, () => {
        this.marks = this.marks.filter((one) => one !== mark);
        this.showMarks();
        this.part("text").focus({ preventScroll: true }); // the button is gone
      });
      chip.ariaLabel = `Remove the mark ${chip.textContent}`;
      return chip;
    }));
    this.paint();
  }

  // ---- what a reload would lose ----------------------------------------------------------------------------------------

  keep() {
    const levels = [...this.tracks].map(([id, { row }]) => {
      const [mute, solo] = ["mute", "solo"].map((name) => row.querySelector(`.studio-${name}`).ariaPressed);
      return { id, mute, solo, gain: row.querySelector(".studio-gain").value };
    });
    const { recording, selection, marks } = this;
    sessionStorage.setItem(KEPT, JSON.stringify({ version: recording?.version, selection, marks, levels }));
  }

  restore() {
    const kept = JSON.parse(sessionStorage.getItem(KEPT) || "{}");
    if (!this.recording || kept.version !== this.recording.version) return;
    for (const level of kept.levels) {
      const row = this.tracks.get(level.id)?.row;
      if (!row) continue;
      for (const name of ["mute", "solo"]) if (level[name] === "true") row.querySelector(`.studio-${name}`).click();
      const slider = row.querySelector(".studio-gain");
      slider.value = level.gain;
      slider.dispatchEvent(new Event("input"));
    }
    this.marks = kept.marks;
    this.showMarks();
    this.select(kept.selection);
  }

  // ---- what is drawn ----------------------------------------------------------------------------------------------------

  paint(spans = this.marks.map((mark) => mark.span)) {
    if (!this.recording || !this.main) return;
    const total = this.recording.seconds;
    draw(this.part("main").querySelector("canvas"), this.main, { start: 0, seconds: total, total }, spans);
    for (const { track, view, row } of this.tracks.values()) {
      const place = { start: track.start, seconds: track.seconds, total };
      draw(row.querySelector("canvas"), view, place, track.spans);
    }
  }

  // Changes nothing that is shown already: a page at rest is not drawn again and again.
  tick() {
    if (this.recording) {
      const second = this.player.position();
      const left = `${round((100 * second) / this.recording.seconds)}%`;
      for (const head of this.root.querySelectorAll(".studio-playhead")) change(head.style, "left", left);
      change(this.part("time"), "textContent", `${clock(second, 1)} / ${clock(this.recording.seconds, 1)}`);
      change(this.part("play"), "textContent", this.player.playing ? "Pause" : "Play");
      change(this.part("main"), "ariaValueNow", second.toFixed(1));
      change(this.part("main"), "ariaValueText", clock(second, 1));
      for (const [id, { row }] of this.tracks) {
        const level = this.player.playing ? this.player.level(id) : -Infinity;
        const width = `${Math.round(Math.max(0, Math.min(100, (level + 60) / 0.6)))}%`;
        change(row.querySelector(".studio-level div").style, "width", width);
      }
    }
    requestAnimationFrame(() => this.tick());
  }

  // ---- messages -------------------------------------------------------------------------------------------------------------

  async try(action) {
    this.fail();
    this.say("");
    try {
      await action();
    } catch (error) {
      if (error.message !== "cancelled") this.fail(error);
    }
    this.server.wake();
  }

  say(text) {
    this.part("status").textContent = text;
  }

  // Without an error none is shown any more.
  fail(error = null) {
    this.part("error").textContent = error?.message ?? "";
  }
}

function change(owner, name, value) {
  if (owner[name] !== value) owner[name] = value;
}

function round(value) {
  return Math.round(100 * value) / 100;
}

function button(text, action) {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = text;
  made.addEventListener("click", action);
  return made;
}

function press(pressed) {
  const now = pressed.ariaPressed !== "true";
  pressed.ariaPressed = String(now);
  return now;
}

function about(track) {
  const parts = [track.complete ? "" : "preview", track.origin === "stems" ? "stem" : ""];
  if (track.presence !== null) parts.push(`in the recording: ${Math.round(track.presence * 100)}%`);
  if (track.spans.length) parts.push(`at ${spanText(track.spans)}`);
  return parts.filter(Boolean).join(", ");
}

function spanText(spans) {
  const shown = spans.slice(0, 4).map(([start, end]) =>
    end < 60 ? `${start.toFixed(1)}-${end.toFixed(1)} s` : `${clock(start, 1)}-${clock(end, 1)}`);
  return shown.join(", ") + (spans.length > 4 ? ` and ${spans.length - 4} more` : "");
}

// Seconds as they are typed: 75.5 or 1:15.5, with a point or a comma; NaN for anything else.
function parsed(text) {
  const parts = text.trim().replace(",", ".").split(":");
  return parts.reduce((sum, part) => 60 * sum + (/^\d+(\.\d*)?$/.test(part) ? Number(part) : NaN), 0);
}

function exact(seconds) {
  return seconds < 60 ? seconds.toFixed(2) : clock(seconds, 2);
}

function clock(seconds, digits = 0) {
  const rounded = Number(seconds.toFixed(digits));
  const minutes = Math.floor(rounded / 60);
  return `${minutes}:${(rounded - 60 * minutes).toFixed(digits).padStart(digits ? 3 + digits : 2, "0")}`;
}
