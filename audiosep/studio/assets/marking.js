// The marked stretch of the recording, by the mouse, by fingers, by keys or typed, and the marks that a query is given.

import { button, part } from "./elements.js";
import { exact, parsed, spanText } from "./times.js";

const CLICK = 4; // pixels; a shorter drag is a click
const SHORTEST = 0.01; // seconds of a marked stretch
const NUDGE = 0.1; // seconds of an arrow key in a field of a stretch

export class Marking {
  // seek(second): a click plays from there; selected(): the stretch is another one; marked(): so are the marks
  constructor(root, timeline, messages, { seek, selected, marked }) {
    Object.assign(this, { root, timeline, messages, seek, selected, marked });
    this.fields = ["from", "to"].map((name) => part(root, name));
    this.selection = null; // [start, end] seconds
    this.marks = []; // {kind: "spans" | "not", span}
    this.typing = false; // whether a field has been changed and is not judged yet
    this.#bindFields();
    this.#bindMain(part(root, "main"));
    part(root, "this").addEventListener("click", () => this.#mark("spans"));
    part(root, "not").addEventListener("click", () => this.#mark("not"));
  }

  clear() {
    this.selection = null;
    this.marks = [];
    this.#showMarks();
  }

  // The marks and the stretch of before.
  restore(marks, selection) {
    this.marks = marks;
    this.#showMarks();
    this.select(selection);
  }

  spans(kind = null) {
    return this.marks.filter((mark) => kind === null || mark.kind === kind).map((mark) => mark.span);
  }

  select(selection) {
    this.messages.fail();
    this.selection = selection && selection[1] - selection[0] > SHORTEST ? selection : null;
    this.show();
    this.typing = false;
    this.fields.forEach((field, at) => (field.value = this.selection ? exact(this.selection[at]) : ""));
    this.selected();
  }

  // The stretch begins or ends at a second.
  selectFrom(second) {
    const end = this.selection?.[1] ?? this.timeline.total;
    this.select([second, end > second ? end : this.timeline.total]);
  }

  selectTo(second) {
    const start = this.selection?.[0] ?? 0;
    this.select([start < second ? start : 0, second]);
  }

  // The stretch; where there is none, the page says so.
  needed() {
    if (!this.selection) {
      const how = "Mark a stretch first: drag over the waveform, or type where it begins and ends.";
      this.messages.fail(new Error(how));
    }
    return this.selection;
  }

  show() {
    const box = part(this.root, "selection");
    box.hidden = !this.selection;
    if (box.hidden) return;
    const [start, end] = this.selection.map((second) => this.timeline.percent(second));
    box.style.left = `${start}%`;
    box.style.width = `${end - start}%`;
  }

  // Takes marks away that a query has answered; further ones may have come by then.
  drop(marks) {
    this.marks = this.marks.filter((mark) => !marks.includes(mark));
    this.#showMarks();
  }

  // What is typed is judged when both fields are left, not between them, or by Enter.
  #bindFields() {
    for (const field of this.fields) {
      field.addEventListener("input", () => (this.typing = true));
      field.addEventListener("focusout", (event) => {
        const away = document.activeElement === field; // in another window
        if (this.typing && !away && !this.fields.includes(event.relatedTarget)) this.#typed();
      });
      field.addEventListener("keydown", (event) => {
        if (event.key === "Enter") return this.#typed();
        const step = { ArrowUp: NUDGE, ArrowDown: -NUDGE }[event.key];
        const moved = parsed(field.value) + step;
        if (!(moved >= 0)) return;
        event.preventDefault();
        field.value = exact(moved);
        this.#typed();
      });
    }
  }

  #bindMain(main) {
    const { timeline } = this;
    timeline.listen(main);
    let from = null;
    main.addEventListener("pointerdown", (event) => {
      if (timeline.pinched) {
        if (from) this.select(from.selection); // the first finger marked nothing
        from = null;
        return;
      }
      from = { x: event.clientX, second: timeline.second(event), selection: this.selection };
      main.setPointerCapture(event.pointerId);
    });
    main.addEventListener("pointermove", (event) => {
      if (from && Math.abs(event.clientX - from.x) >= CLICK) {
        this.select([from.second, timeline.second(event)].sort((a, b) => a - b));
      }
    });
    main.addEventListener("pointerup", (event) => {
      if (from && Math.abs(event.clientX - from.x) < CLICK) this.seek(from.second);
      from = null;
    });
    main.addEventListener("pointercancel", () => (from = null));
  }

  #typed() {
    const typed = this.fields.map((field) => field.value);
    const [from, to] = typed.map(parsed);
    const end = Math.min(to, this.timeline.total);
    if (from >= 0 && end - from > SHORTEST) return this.select([from, end]);
    this.select(null);
    this.fields.forEach((field, at) => (field.value = typed[at])); // stays, to be mended
    if (typed.some((text) => !text.trim())) return; // not all is typed
    const how = "A stretch begins within the recording and ends after that: type seconds, or minutes:seconds.";
    this.messages.fail(new Error(how));
  }

  #mark(kind) {
    if (!this.needed()) return;
    this.messages.fail();
    const span = this.selection.map((second) => Math.round(second * 1000) / 1000);
    this.marks = [...this.marks, { kind, span }];
    this.#showMarks();
  }

  #showMarks() {
    part(this.root, "marks").replaceChildren(...this.marks.map((mark) => {
      const chip = button(`${mark.kind === "not" ? "not this" : "this sound"} ${spanText([mark.span])} ×`, () => {
        this.drop([mark]);
        part(this.root, "text").focus({ preventScroll: true }); // the button is gone
      });
      chip.ariaLabel = `Remove the mark ${chip.textContent}`;
      return chip;
    }));
    this.marked();
  }
}
