// Speaks to the studio's server: the state of this page, requests that wait for their turn, uploads, samples.

const BUSY = 120; // ms between two looks at the state while something is going on
const IDLE = 4000;
const LOST = 1000; // where it did not answer
const KEPT = "audiosep-studio";

export class Server {
  constructor(root) {
    this.root = root;
    this.session = null;
    this.about = {};
    this.pending = new Map(); // request -> {resolve, reject}
    this.watch = () => {};
    this.wake = () => {};
    addEventListener("pagehide", () => {
      if (this.session) navigator.sendBeacon(this.url("leave"), "");
    });
  }

  url(path = "") {
    return `${this.root}studio/sessions/${this.session}${path && "/"}${path}`;
  }

  // The session of this tab before it was loaded again, if the server still has it, or a new one.
  async connect() {
    const before = JSON.parse(sessionStorage.getItem(KEPT) || "null");
    if (before) {
      Object.assign(this, before);
      const state = await this.state().catch(() => null);
      if (state) {
        // What has not begun, and files for a page that has forgotten that it wanted them.
        const writing = state.running.filter((one) => one.stage === "writing").map((one) => one.request);
        for (const request of [...state.waiting, ...writing]) await this.post("cancel", { request });
        return state;
      }
    }
    const about = await read(await call(`${this.root}studio/sessions`, { method: "POST" }));
    this.session = about.session;
    this.about = about;
    sessionStorage.setItem(KEPT, JSON.stringify({ session: this.session, about }));
    return this.state();
  }

  async state() {
    return read(await call(this.url(), { cache: "no-store" }));
  }

  async post(path, body) {
    return read(await call(this.url(path), {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
    }));
  }

  // Ends when the request was answered, with the answer; fails with the reason where it could not be.
  async ask(request, name, ...values) {
    await this.post("requests", { request });
    const answered = new Promise((resolve, reject) => this.pending.set(request, { resolve, reject }));
    answered.catch(() => {}); // it may fail while the call is on its way, before anybody waits for it
    const answer = await call(`${this.root}gradio_api/call/page_${name}`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ data: [this.session, request, ...values] }),
    });
    if (!answer.ok) {
      await this.post("cancel", { request });
      this.pending.delete(request);
      throw new Error("The studio is busy: try again in a moment.");
    }
    this.wake();
    return answered;
  }

  // Calls `watch` with the state, again and again.
  async follow() {
    for (;;) {
      let state = null;
      try {
        state = await this.state();
        for (const [request, { error, answer }] of Object.entries(state.finished)) {
          const one = this.pending.get(request);
          this.pending.delete(request);
          if (one) error === null ? one.resolve(answer) : one.reject(new Error(error));
        }
        await this.watch(state);
      } catch (error) {
        await this.watch(null, error);
        if (error.status === 400) return this.end(error);
      }
      const busy = this.pending.size > 0 || state?.running.length;
      await new Promise((resolve) => {
        this.wake = resolve;
        setTimeout(resolve, state === null ? LOST : busy ? BUSY : IDLE);
      });
    }
  }

  // The server has nothing of this page any more.
  end(error) {
    for (const one of this.pending.values()) one.reject(error);
    this.pending.clear();
  }

  // The path of an uploaded file on the server. signal: of an AbortController, with which it fails as cancelled.
  upload(file, progress, signal) {
    return new Promise((resolve, reject) => {
      const form = new FormData();
      form.append("files", file, uniqueName()); // two pages may upload the same file
      const request = new XMLHttpRequest();
      request.open("POST", `${this.root}gradio_api/upload`);
      request.responseType = "json";
      request.upload.onprogress = (event) => event.lengthComputable && progress(event.loaded / event.total);
      request.onerror = () => reject(new Error("The upload failed: is the studio still running?"));
      request.onabort = () => reject(new Error("cancelled"));
      signal.addEventListener("abort", () => request.abort());
      request.onload = () => {
        if (request.status === 200) resolve(request.response[0]);
        else if (request.status === 413) reject(new Error("The file is larger than the studio takes."));
        else reject(new Error(`The upload failed (${request.status}).`));
      };
      request.send(form);
    });
  }

  // The picture of a part of a track, in seconds of the track.
  view(track, from, to, columns) {
    return call(this.url(`view/${track}?from=${from}&to=${to}&columns=${columns}`)).then(read);
  }

  async samples(track, start, count) {
    const answer = await fetch(this.url(`samples/${track}?start=${start}&count=${count}`));
    if (!answer.ok) throw new Error("The samples are not there any more.");
    return new Float32Array(await answer.arrayBuffer());
  }
}

async function call(address, options) {
  return fetch(address, options).catch(() => {
    throw new Error("The studio does not answer: is it still running?");
  });
}

async function read(answer) {
  const document = await answer.json().catch(() => ({}));
  if (!answer.ok) {
    const error = new Error(document.error || `The studio answered ${answer.status}.`);
    throw Object.assign(error, { status: answer.status });
  }
  return document;
}

// Of a request or an upload, which no other has.
export function uniqueName() {
  return Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
