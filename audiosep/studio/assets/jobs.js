// The rows that say what is going on: each request that is answered, with Cancel, and how many wait for their turn.

import { clock } from "./times.js";

const STAGES = { preview: "first 20 seconds", full: "the whole recording" };
const WAITING = "waiting";
const LONG = 100; // seconds from which on minutes are told

export class Jobs {
  // cancel(requests): tells the server
  constructor(list, cancel) {
    this.list = list;
    this.cancel = cancel;
    this.rows = new Map(); // request -> its row, which stays while it changes, so that no click is lost
    this.expected = new Set(); // requests that the server does not know yet, and may not for a while
    this.said = [[], []]; // what was shown last
  }

  // A request is on its way to the server.
  expect(request) {
    this.expected.add(request);
    this.show(...this.said);
  }

  // It is answered, or has failed.
  forget(request) {
    if (this.expected.delete(request)) this.show(...this.said);
  }

  show(running, known) {
    this.said = [running, known];
    for (const request of [...running.map((one) => one.request), ...known]) this.expected.delete(request);
    const waiting = [...known, ...this.expected];
    const wanted = new Map();
    for (const one of running) {
      wanted.set(one.request, { text: label(one), fraction: one.fraction, requests: [one.request] });
    }
    if (waiting.length) {
      const text = running.length || waiting.length > 1 ? `${waiting.length} waiting` : "Waiting for its turn";
      wanted.set(WAITING, { text, fraction: null, requests: waiting });
    }
    for (const [name, row] of this.rows) if (!wanted.has(name)) this.#drop(name, row);
    for (const [name, job] of wanted) this.#fill(this.rows.get(name) ?? this.#add(name), job);
  }

  #add(name) {
    const row = document.createElement("div");
    row.className = "studio-job";
    row.innerHTML = `
      <progress max="1" aria-label="Progress"></progress>
      <span class="studio-job-text"></span>
      <button type="button" class="studio-cancel">Cancel</button>`;
    row.querySelector("button").addEventListener("click", () => this.cancel(row.requests));
    this.rows.set(name, row);
    this.list.append(row);
    return row;
  }

  #fill(row, { text, fraction, requests }) {
    row.requests = requests;
    row.querySelector(".studio-job-text").textContent = text;
    row.querySelector("button").ariaLabel = `Cancel: ${text.split(",")[0]}`;
    const bar = row.querySelector("progress");
    if (fraction === null) bar.removeAttribute("value"); // nobody knows how long it waits
    else bar.value = fraction;
  }

  #drop(name, row) {
    row.remove();
    this.rows.delete(name);
  }
}

function label(one) {
  const left = one.left === null ? "" : one.left < LONG ? `${Math.ceil(one.left)} s left` : `${clock(one.left)} left`;
  return [one.what, STAGES[one.stage], `${Math.round(one.fraction * 100)}%`, left].filter(Boolean).join(", ");
}
