// The page of the studio: what the user sees and does. `server.js` speaks to the server, `player.js` plays.

import { decode, draw, ruler } from "./drawing.js";
import { Jobs } from "./jobs.js";
import { MIX, Player, REST } from "./player.js";
import { Server, uniqueName } from "./server.js";
import { Timeline } from "./timeline.js";
import { clock, exact, parsed, spanText } from "./times.js";

const NOTHING = { running: [], waiting: [] };
const UNMARKED = "Mark a stretch first: drag over the waveform, or type where it begins and ends.";
const SOFTEST = -40; // dB of the slider, where it means silence
const LOUDEST = 12;
const STEP = 5; // seconds of an arrow key, or a tenth of what is shown where that is less
const CLOSER = 2; // factor of the buttons and keys of the zoom
const AROUND = 0.25; // of a marked stretch that is shown on each side of it
const SAID = 20000; // ms for which a message is shown
const SETTLED = 150; // ms without a change of what is shown, after which it is fetched more exactly
const SURE = 0.5; // from which on what is heard is more probable than not
const CLICK = 4; // pixels; a shorter drag is a click
const SHORTEST = 0.01; // seconds of a marked stretch
const NUDGE = 0.1; // seconds of an arrow key in a field of a stretch
const FEWEST = 100; // columns of a picture
const MOST = 4000;
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
    this.timeline = new Timeline(() => this.moved());
    this.jobs = new Jobs(this.part("jobs"), (requests) => this.cancel(requests));
    this.recording = null;
    this.main = null; // of the recording, what `tracks` has of each track
    this.tracks = new Map(); // id -> {track, view of all, detail or null: of what is shown, row}
    this.heard = null;
    this.selection = null; // [start, end] seconds
    this.marks = []; // {kind: "spans" | "not", span}
    this.chosen = 0;
    this.state = NOTHING; // of the requests, as the server said last
    this.uploading = null;
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
      this.part("file").disabled = true; // there is nowhere to open one
      return this.fail(error);
    }
    addEventListener("pagehide", () => this.keep());
    this.server.watch = (state, error) => {
      if (!state) {
        this.showJobs(NOTHING);
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
    this.showJobs(state);
    if (!recording) return;
    if (state.heard && !this.heard) this.showHeard(state.heard);
    const ids = [REST, ...state.tracks.map((track) => track.id)];
    for (const id of [...this.tracks.keys()]) if (!ids.includes(id)) this.dropTrack(id);
    for (const track of state.tracks) await this.showTrack(track);
    await this.showRest(state.tracks.filter((track) => track.complete));
    this.part("downloads").hidden = !state.tracks.length;
    const stems = state.tracks.filter((track) => track.origin === "stems" && track.complete).map((track) => track.name);
    this.part("save-stems").hidden = !["vocals", "drums", "bass", "other"].every((name) => stems.includes(name));
  }

  showJobs(state = this.state) {
    this.state = state;
    this.jobs.show([...(this.uploading ? [this.uploading.job] : []), ...state.running], state.waiting);
  }

  async showRecording(recording) {
    this.player.close();
    for (const id of [...this.tracks.keys()]) this.dropTrack(id);
    Object.assign(this, { recording, main: null, heard: null, selection: null, marks: [], chosen: 0 });
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
    this.part("scroll").max = recording.seconds;
    this.timeline.open(recording.seconds);
    this.select(null);
    const whole = { start: 0, seconds: recording.seconds, spans: [] };
    await this.addRow({ ...whole, id: REST, name: "the rest", origin: "" });
    const track = { ...whole, id: MIX };
    this.main = { track, detail: null, row: this.part("main"), view: await this.picture(track) };
    this.moved();
  }

  // The picture of a track, or of a part of it in seconds of the recording, for the width that is shown.
  async picture(track, from = track.start, to = track.start + track.seconds, seconds = this.recording.seconds) {
    const columns = Math.ceil((this.part("main").clientWidth * (to - from)) / seconds);
    const most = Math.max(FEWEST, Math.min(MOST, columns));
    return decode(await this.server.view(track.id, from - track.start, to - track.start, most), track.start);
  }

  showHeard(heard) {
    this.heard = heard;
    // How sure it is says no number here: it is of all names that it may have, before anything is separated, while that
    // of a track is of one name, after it.
    const groups = { "Heard:": [], "Perhaps:": [] };
    for (const sound of heard) groups[sound.score >= SURE ? "Heard:" : "Perhaps:"].push(sound);
    const shown = Object.entries(groups).filter(([, sounds]) => sounds.length);
    this.part("heard").replaceChildren(...shown.map(([title, sounds]) => {
      const group = document.createElement("div");
      group.role = "group";
      group.ariaLabel = title;
      group.append(title, ...sounds.map((sound) => this.chip(sound)));
      return group;
    }));
  }

  chip(sound) {
    const chip = button(sound.name, () => this.separate({ text: sound.name }));
    chip.dataset.sound = sound.name;
    chip.title = `Separate ${sound.name}: heard at ${spanText(sound.spans)}`;
    for (const event of ["pointerenter", "focus"]) chip.addEventListener(event, () => this.paint(sound.spans));
    for (const event of ["pointerleave", "blur"]) chip.addEventListener(event, () => this.paint());
    return chip;
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
    const view = await this.picture(track).catch(() => null);
    if (!view) return; // removed meanwhile, or asked for again with the next state
    Object.assign(one, { view, detail: null, drawn: track.version });
    this.moved();
  }

  async showRest(tracks) {
    const version = tracks.map((track) => track.version).join();
    const rest = this.tracks.get(REST);
    if (rest.version === version) return;
    const view = await this.picture(rest.track).catch(() => null);
    if (!view) return; // as above
    Object.assign(rest, { view, detail: null, version });
    this.moved();
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
    const canvas = row.querySelector(".studio-canvas");
    canvas.addEventListener("click", (event) => this.player.seek(this.timeline.second(event)));
    this.timeline.listen(canvas);
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
    this.tracks.set(track.id, { track, view: null, detail: null, row });
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
    this.bindMain();
    this.bindZoom();
    this.root.addEventListener("click", (event) => {
      // After a click of the mouse, unlike one by the keyboard, the space bar plays and does not click again.
      if (event.detail > 0) event.target.closest("button")?.blur();
    });
    document.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.moved()).observe(this.root);
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
    this.timeline.listen(main);
    let from = null;
    main.addEventListener("pointerdown", (event) => {
      if (!this.recording) return;
      if (this.timeline.pinched) {
        if (from) this.select(from.selection); // the first finger marked nothing
        from = null;
        return;
      }
      from = { x: event.clientX, second: this.timeline.second(event), selection: this.selection };
      main.setPointerCapture(event.pointerId);
    });
    main.addEventListener("pointermove", (event) => {
      if (from && Math.abs(event.clientX - from.x) >= CLICK) {
        this.select([from.second, this.timeline.second(event)].sort((a, b) => a - b));
      }
    });
    main.addEventListener("pointerup", (event) => {
      if (from && Math.abs(event.clientX - from.x) < CLICK) this.player.seek(from.second);
      from = null;
    });
    main.addEventListener("pointercancel", () => (from = null));
  }

  bindZoom() {
    const on = (name, action) => this.part(name).addEventListener("click", action);
    on("zoom-in", () => this.zoom(CLOSER));
    on("zoom-out", () => this.zoom(1 / CLOSER));
    on("zoom-mark", () => this.zoomMark());
    on("zoom-all", () => this.timeline.show(0, this.recording.seconds));
    this.part("scroll").addEventListener("input", (event) => {
      this.timeline.show(Number(event.target.value) - this.timeline.seconds / 2);
    });
  }

  // Around the place of playing where it is shown, else around the middle.
  zoom(factor) {
    const { timeline } = this;
    const second = this.player.position();
    timeline.zoom(factor, timeline.has(second) ? second : timeline.start + timeline.seconds / 2);
  }

  zoomMark() {
    if (!this.selection) return this.fail(new Error(UNMARKED));
    const [start, end] = this.selection;
    const around = AROUND * (end - start);
    this.timeline.show(start - around, end - start + 2 * around);
  }

  // By the keyboard, which sees where it goes.
  seek(second) {
    this.player.seek(second);
    this.timeline.reveal(this.player.position());
  }

  // By the keyboard: a marked stretch begins or ends where it plays.
  markAt(side) {
    const second = this.player.position();
    const [start, end] = this.selection ?? [0, this.recording.seconds];
    if (side === "start") this.select([second, end > second ? end : this.recording.seconds]);
    else this.select([start < second ? start : 0, second]);
  }

  key(event) {
    if (!this.recording || event.ctrlKey || event.metaKey || event.altKey) return;
    const { target } = event;
    if (event.key === "Escape" && !target.matches?.("select, .studio-text")) return this.select(null);
    if (target.matches?.("input:not([type=range]):not([type=file]), select, textarea")) return;
    const pressing = target.matches?.("button, summary, a, label");
    const step = this.timeline.zoomed ? Math.min(STEP, this.timeline.seconds / 10) : STEP;
    const rows = [...this.tracks.values()];
    const row = rows[this.chosen]?.row;
    const actions = {
      " ": () => this.toggle(),
      a: () => this.compare(),
      l: () => this.toggleLoop(),
      m: () => row?.querySelector(".studio-mute").click(),
      s: () => row?.querySelector(".studio-solo").click(),
      i: () => this.markAt("start"),
      o: () => this.markAt("end"),
      z: () => this.zoomMark(),
      "+": () => this.zoom(CLOSER),
      "=": () => this.zoom(CLOSER), // the key of + without Shift
      "-": () => this.zoom(1 / CLOSER),
      0: () => this.timeline.show(0, this.recording.seconds),
      ArrowLeft: () => this.seek(this.player.position() - step),
      ArrowRight: () => this.seek(this.player.position() + step),
      Home: () => this.seek(0),
      End: () => this.seek(this.recording.seconds),
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
    this.part("file").value = ""; // so that the same one can be chosen again
    if (!file || this.part("file").disabled) return;
    const { limits } = this.server.about;
    await this.try(async () => {
      if (file.size > limits.upload_bytes) throw new Error(`${file.name} is larger than the studio takes.`);
      const path = await this.upload(file);
      await this.server.ask(uniqueName(), "open", path, file.name);
      this.listen();
    });
    this.say(others.length ? `One recording at a time: of ${others.length + 1} files only ${file.name} was taken.` : "");
  }

  // One at a time: a file that is chosen meanwhile takes its place.
  async upload(file) {
    this.uploading?.stop();
    const controller = new AbortController();
    const job = { request: uniqueName(), what: `Uploading ${file.name}`, stage: "", fraction: 0, left: null };
    const mine = (this.uploading = { job, stop: () => controller.abort() });
    const tell = (fraction) => {
      job.fraction = fraction;
      this.showJobs();
    };
    try {
      tell(0);
      return await this.server.upload(file, tell, controller.signal);
    } finally {
      if (this.uploading === mine) this.uploading = null;
      this.showJobs();
    }
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
      this.jobs.expect(); // before the server has answered
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
      this.jobs.expect();
      const asked = JSON.stringify({ ...wanted, format: this.part("format").value });
      const made = await this.server.ask(uniqueName(), "write", asked);
      remarks = made.remarks;
      const link = document.createElement("a");
      link.href = this.server.url(`files/${made.key}`);
      link.download = "";
      link.click();
    });
    this.say(remarks.join("; "));
  }

  cancel(requests) {
    if (requests.includes(this.uploading?.job.request)) return this.uploading.stop();
    return this.try(() => Promise.all(requests.map((request) => this.server.post("cancel", { request }))));
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
    this.showSelection();
    this.typing = false;
    this.stretch().forEach((field, at) => (field.value = this.selection ? exact(this.selection[at]) : ""));
    if (this.part("loop").ariaPressed === "true") this.player.setLoop(this.selection ?? [0, this.recording.seconds]);
  }

  showSelection() {
    const box = this.part("selection");
    box.hidden = !this.selection;
    if (box.hidden) return;
    const [start, end] = this.selection.map((second) => percent(this.timeline.share(second)));
    box.style.left = `${start}%`;
    box.style.width = `${end - start}%`;
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
      return this.fail(new Error(UNMARKED));
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
    const { recording, selection, marks, timeline } = this;
    const shown = [timeline.start, timeline.seconds];
    sessionStorage.setItem(KEPT, JSON.stringify({ version: recording?.version, selection, marks, levels, shown }));
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
    this.timeline.show(...kept.shown);
  }

  // ---- what is drawn ----------------------------------------------------------------------------------------------------

  // Other pictures are drawn with the next frame, however often this is called before.
  paint(spans = this.marks.map((mark) => mark.span)) {
    this.painting = spans;
  }

  draw(spans) {
    const { main, timeline, recording } = this;
    const canvas = (row) => row.querySelector("canvas");
    for (const { track, view, detail, row } of [main, ...this.tracks.values()]) {
      const views = [view, detail].filter(Boolean);
      draw(canvas(row), views, timeline, row === main.row ? spans : track.spans);
    }
    ruler(this.part("ruler"), timeline, clock);
    draw(canvas(this.part("strip")), [main.view], { start: 0, seconds: recording.seconds }, spans);
  }

  // Another part of the recording is shown, or with other pictures.
  moved() {
    if (!this.recording) return;
    const { timeline } = this;
    this.showSelection();
    const scroll = this.part("scroll");
    scroll.step = timeline.seconds / 2;
    scroll.value = timeline.start + timeline.seconds / 2;
    scroll.ariaValueText = `${clock(timeline.start, 1)} to ${clock(timeline.end, 1)}`;
    this.part("strip").classList.toggle("studio-unused", !timeline.zoomed);
    scroll.disabled = !timeline.zoomed;
    const { style } = this.part("shown");
    style.left = `${(100 * timeline.start) / timeline.total}%`;
    style.width = `${(100 * timeline.seconds) / timeline.total}%`;
    this.paint();
    clearTimeout(this.settling);
    this.settling = setTimeout(() => this.refine(), SETTLED);
  }

  // Fetches what is shown, and half of that on each side, where the pictures are too coarse.
  async refine() {
    if (!this.main) return;
    const { start, seconds, end } = this.timeline;
    for (const one of [this.main, ...this.tracks.values()]) {
      const { track, view } = one;
      const [first, last] = [track.start, track.start + track.seconds];
      const [from, to] = [Math.max(first, start), Math.min(last, end)];
      const fine = (2 * seconds) / this.part("main").clientWidth; // seconds of a column
      const shows = (picture) => picture?.start <= from && picture.end >= to && picture.step <= fine;
      if (!view || to <= from || shows(view) || shows(one.detail)) continue;
      const wider = [Math.max(first, start - seconds / 2), Math.min(last, end + seconds / 2)];
      const detail = await this.picture(track, ...wider, seconds).catch(() => null);
      if (this.timeline.start !== start || this.timeline.seconds !== seconds) return; // another is on its way
      if (one.view === view && detail) one.detail = detail;
      this.paint();
    }
  }

  // Changes nothing that is shown already: a page at rest is not drawn again and again.
  tick() {
    if (this.recording) {
      const second = this.player.position();
      if (this.timeline.has(this.before)) this.timeline.reveal(second); // follows what plays, unless one looks elsewhere
      this.before = second;
      const left = `${round(percent(this.timeline.share(second)))}%`;
      for (const head of this.root.querySelectorAll(".studio-playhead")) change(head.style, "left", left);
      change(this.part("head").style, "left", `${round((100 * second) / this.recording.seconds)}%`);
      const end = this.player.late ? "loading" : clock(this.recording.seconds, 1);
      change(this.part("time"), "textContent", `${clock(second, 1)} / ${end}`);
      change(this.part("play"), "textContent", this.player.playing ? "Pause" : "Play");
      change(this.part("main"), "ariaValueNow", second.toFixed(1));
      change(this.part("main"), "ariaValueText", clock(second, 1));
      for (const [id, { row }] of this.tracks) {
        const level = this.player.playing ? this.player.level(id) : -Infinity;
        const width = `${Math.round(Math.max(0, Math.min(100, (level + 60) / 0.6)))}%`;
        change(row.querySelector(".studio-level div").style, "width", width);
      }
    }
    if (this.painting && this.main) {
      this.draw(this.painting);
      this.painting = null;
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

  // For a while: it lies over what is below it.
  say(text) {
    this.part("status").textContent = text;
    clearTimeout(this.saying);
    this.saying = setTimeout(() => (this.part("status").textContent = ""), SAID);
  }

  // Without an error none is shown any more.
  fail(error = null) {
    this.part("error").textContent = error?.message ?? "";
  }
}

function change(owner, name, value) {
  if (owner[name] !== value) owner[name] = value;
}

// Of the width, for styles: as far outside as can be told from inside, as browsers take no larger numbers.
function percent(share) {
  return 100 * Math.max(-1, Math.min(2, share));
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
  if (track.presence !== null) parts.push(`${Math.round(track.presence * 100)}% sure that the recording has it`);
  if (track.spans.length) parts.push(`at ${spanText(track.spans)}`);
  return parts.filter(Boolean).join(", ");
}
