// The page of the studio: what the server says is shown, and what the user wants is asked of it. `server.js` speaks to
// the server, `player.js` plays; every other part of the page has its own module.

import { part } from "./elements.js";
import { Jobs } from "./jobs.js";
import { onKey } from "./keys.js";
import { Marking } from "./marking.js";
import { Messages } from "./messages.js";
import { Pictures } from "./pictures.js";
import { Player, REST } from "./player.js";
import { Server, uniqueName } from "./server.js";
import { Suggestions } from "./suggestions.js";
import { Timeline } from "./timeline.js";
import { clock } from "./times.js";
import { Tracks } from "./tracks.js";
import { Transport } from "./transport.js";
import { Zoom } from "./zoom.js";

const NOTHING = { running: [], waiting: [] };
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
    this.messages = new Messages(root);
    this.player = new Player((track, first, count) => this.server.samples(track, first, count));
    this.timeline = new Timeline(() => this.moved());
    this.jobs = new Jobs(this.part("jobs"), (requests) => this.cancel(requests));
    this.marking = new Marking(root, this.timeline, this.messages, {
      seek: (second) => this.player.seek(second),
      selected: () => this.transport.loop(),
      marked: () => this.pictures.paint(),
    });
    this.tracks = new Tracks(this.part("tracks"), this.part("format"), this.player, this.timeline, {
      download: (track) => this.download({ kind: "track", track }),
      remove: (track) => this.try(() => this.server.post("remove", { track })),
    });
    this.pictures = new Pictures(root, this.server, this.timeline, this.tracks, () => this.marking.spans());
    this.suggestions = new Suggestions(this.part("heard"), {
      separate: (text) => this.separate({ text }),
      paint: (spans) => this.pictures.paint(spans),
    });
    this.transport = new Transport(root, this.player, this.timeline, this.tracks, () => this.marking.selection);
    this.zoom = new Zoom(root, this.timeline, this.player, this.marking);
    this.recording = null;
    this.heard = null;
    this.state = NOTHING; // of the requests, as the server said last
    this.uploading = null;
    this.listening = null; // the request that finds what is heard
  }

  part(name) {
    return part(this.root, name);
  }

  async begin() {
    this.bind();
    try {
      const state = await this.server.connect();
      const { models, formats, limits } = this.server.about;
      const most = `${Math.round(limits.upload_bytes / 2 ** 20)} MiB and ${clock(limits.seconds)}`;
      this.part("limits").textContent = `Up to ${most}. Nothing leaves this server.`;
      this.part("model").replaceChildren(...models.map((name) => new Option(name, name)));
      this.part("models").hidden = models.length < 2;
      const kept = localStorage.getItem(FORMAT);
      this.part("format").replaceChildren(...formats.map((name) => new Option(name, name, false, name === kept)));
      await this.show(state);
      this.restore();
    } catch (error) {
      this.part("file").disabled = true; // there is nowhere to open one
      return this.messages.fail(error);
    }
    addEventListener("pagehide", () => this.keep());
    this.server.watch = (state, error) => {
      if (!state) {
        this.showJobs(NOTHING);
        return this.messages.fail((this.lost = error));
      }
      if (this.lost) this.lost = this.messages.fail(); // it is there again
      return this.show(state);
    };
    requestAnimationFrame(() => this.tick());
    this.root.dataset.ready = "yes";
    this.server.follow();
  }

  // ---- what the server says -----------------------------------------------------------------------------------------

  async show(state) {
    const { recording } = state;
    if (recording?.version !== this.recording?.version) this.showRecording(recording);
    this.showJobs(state);
    if (!recording) return;
    if (!this.pictures.main && (await this.pictures.open())) this.moved();
    if (state.heard && !this.heard) this.suggestions.show((this.heard = state.heard));
    this.tracks.keep([REST, ...state.tracks.map((track) => track.id)]);
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

  showRecording(recording) {
    this.player.close();
    this.tracks.clear();
    this.pictures.close();
    Object.assign(this, { recording, heard: null });
    this.part("recording").hidden = !recording;
    this.suggestions.show([]);
    this.marking.clear();
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
    this.marking.select(null);
    this.tracks.add({ id: REST, name: "the rest", origin: "", start: 0, seconds: recording.seconds, spans: [] });
    this.moved();
  }

  async showTrack(track) {
    if (this.tracks.get(track.id)?.drawn === track.version) return;
    if (await this.pictures.show(this.tracks.show(track), track.version)) this.moved();
  }

  async showRest(tracks) {
    const version = tracks.map((track) => track.version).join();
    const rest = this.tracks.get(REST);
    if (rest.drawn !== version && (await this.pictures.show(rest, version))) this.moved();
  }

  // Another part of the recording is shown, or with other pictures.
  moved() {
    if (!this.recording) return;
    this.marking.show();
    this.zoom.show();
    this.pictures.moved();
  }

  tick() {
    if (this.recording) this.transport.show();
    this.pictures.draw();
    requestAnimationFrame(() => this.tick());
  }

  // ---- what the user does -------------------------------------------------------------------------------------------

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
    on("format", "change", () => {
      localStorage.setItem(FORMAT, this.part("format").value);
      this.tracks.showFormat();
    });
    on("stems", "click", () => this.separate({ stems: true }));
    on("query", "submit", (event) => {
      event.preventDefault();
      const { marking } = this;
      const wanted = { text: this.part("text").value, spans: marking.spans("spans"), not: marking.spans("not") };
      this.separate(wanted, marking.marks);
    });
    on("save-stems", "click", () => this.download({ kind: "stems" }));
    on("save-all", "click", () => this.download({ kind: "all" }));
    on("save-mix", "click", () => this.download({ kind: "mix", ...this.tracks.levels() }));
    on("save-video", "click", () => this.download({ kind: "video", ...this.tracks.levels() }));
    this.root.addEventListener("click", (event) => {
      // After a click of the mouse, unlike one by the keyboard, the space bar plays and does not click again.
      if (event.detail > 0) event.target.closest("button")?.blur();
    });
    document.addEventListener("keydown", (event) => this.recording && onKey(event, this));
    new ResizeObserver(() => this.moved()).observe(this.root);
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
    const ignored = `One recording at a time: of ${others.length + 1} files only ${file.name} was taken.`;
    this.messages.say(others.length ? ignored : "");
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
    await this.expect(async (request) => {
      if (listening) await this.server.post("cancel", { request: listening });
      const asked = JSON.stringify({ ...wanted, model, ...(from === null ? {} : { from }) });
      const there = await this.server.ask(request, "separate", asked);
      if (this.recording !== recording) return;
      if (this.tracks.get(there)) this.messages.say(`There is a track of this already: ${this.tracks.point(there)}.`);
      else this.messages.say(wanted.stems ? "The stems are there." : `${wanted.text.trim() || "The sound"} is there.`);
      this.marking.drop(marks);
    });
    if (this.recording === recording && listening && !this.heard && [null, listening].includes(this.listening)) {
      this.listen();
    }
  }

  async download(wanted) {
    let remarks = [];
    await this.expect(async (request) => {
      const asked = JSON.stringify({ ...wanted, format: this.part("format").value });
      const made = await this.server.ask(request, "write", asked);
      remarks = made.remarks;
      const link = document.createElement("a");
      link.href = this.server.url(`files/${made.key}`);
      link.download = "";
      link.click();
    });
    this.messages.say(remarks.join("; "));
  }

  cancel(requests) {
    if (requests.includes(this.uploading?.job.request)) return this.uploading.stop();
    return this.try(() => Promise.all(requests.map((request) => this.server.post("cancel", { request }))));
  }

  // As `try`, of a request that is shown to wait before the server has answered.
  async expect(action) {
    const request = uniqueName();
    this.jobs.expect(request);
    await this.try(() => action(request));
    this.jobs.forget(request);
  }

  // Does what is asked, and says what was wrong with it.
  async try(action) {
    this.messages.fail();
    this.messages.say("");
    try {
      await action();
    } catch (error) {
      if (error.message !== "cancelled") this.messages.fail(error);
    }
    this.server.wake();
  }

  // ---- what a reload would lose -------------------------------------------------------------------------------------

  keep() {
    const { recording, timeline } = this;
    const { selection, marks } = this.marking;
    const shown = [timeline.start, timeline.seconds];
    const levels = this.tracks.settings();
    sessionStorage.setItem(KEPT, JSON.stringify({ version: recording?.version, selection, marks, levels, shown }));
  }

  restore() {
    const kept = JSON.parse(sessionStorage.getItem(KEPT) || "{}");
    if (!this.recording || kept.version !== this.recording.version) return;
    this.tracks.set(kept.levels);
    this.marking.restore(kept.marks, kept.selection);
    this.timeline.show(...kept.shown);
  }
}
