// What the page says: what has happened, for a while, and what was wrong, until something else is done.

import { part } from "./elements.js";

const SAID = 20000; // ms for which a message is shown

export class Messages {
  constructor(root) {
    this.status = part(root, "status");
    this.error = part(root, "error");
  }

  // For a while: it lies over what is below it.
  say(text) {
    this.status.textContent = text;
    clearTimeout(this.saying);
    this.saying = setTimeout(() => (this.status.textContent = ""), SAID);
  }

  // Without an error none is shown any more.
  fail(error = null) {
    this.error.textContent = error?.message ?? "";
  }
}
