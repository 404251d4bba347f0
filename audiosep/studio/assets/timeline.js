// The part of the recording that the page shows: all of it, or a part that is zoomed in on and scrolled.

const CLOSEST = 0.1; // seconds that are shown at least
const WHEEL = 0.01; // of a zoom by a factor of e, for a pixel of the wheel
const NOTCH = 50; // pixels that one event of the wheel counts at most, as of a mouse
const LINE = 16; // pixels of a line, in which some browsers count

export class Timeline {
  constructor(changed) {
    this.changed = changed;
    this.touches = new Map(); // pointer -> share of the width at which it is
    this.open(1);
  }

  open(total) {
    this.total = total;
    this.show(0, total);
  }

  get end() {
    return this.start + this.seconds;
  }

  get zoomed() {
    return this.seconds < this.total;
  }

  show(start, seconds = this.seconds) {
    this.seconds = this.#possible(seconds);
    this.start = Math.max(0, Math.min(this.total - this.seconds, start));
    this.changed();
  }

  // Shows `factor` times more closely, and the second `at` in its place.
  zoom(factor, at) {
    const seconds = this.#possible(this.seconds / factor);
    this.show(at - (at - this.start) * (seconds / this.seconds), seconds);
  }

  has(second) {
    return second >= this.start && second <= this.end;
  }

  // Scrolls to a second that is not shown.
  reveal(second) {
    if (!this.has(second)) this.show(second - this.seconds / 10);
  }

  // Where a second is, in percent of the width: as far outside as can be told from inside, as browsers take no larger
  // numbers.
  percent(second) {
    return 100 * Math.max(-1, Math.min(2, (second - this.start) / this.seconds));
  }

  // The second under a pointer, of those that are shown.
  second(event) {
    return this.start + Math.max(0, Math.min(1, across(event))) * this.seconds;
  }

  // Zooms by the wheel with Ctrl, which is also what touchpads send for a pinch, and by two fingers; scrolls sideways.
  listen(canvas) {
    canvas.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    const touched = (event) => event.pointerType === "touch" && this.touches.set(event.pointerId, across(event));
    const left = (event) => this.touches.delete(event.pointerId);
    canvas.addEventListener("pointerdown", (event) => {
      touched(event);
      this.under = [...this.touches].map(([pointer, share]) => [pointer, this.start + share * this.seconds]);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!this.touches.has(event.pointerId)) return;
      touched(event);
      if (this.pinched) this.#pinch();
    });
    for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) canvas.addEventListener(end, left);
  }

  get pinched() {
    return this.touches.size > 1;
  }

  // The seconds that were under two fingers stay under them.
  #pinch() {
    const [[first, from], [last, to]] = this.under;
    const [left, right] = [this.touches.get(first), this.touches.get(last)];
    const seconds = this.#possible((to - from) / (right - left) || this.seconds);
    this.show(from - left * seconds, seconds);
  }

  #wheel(event) {
    const unit = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? LINE : 1;
    const sideways = event.shiftKey ? event.deltaX || event.deltaY : event.deltaX;
    if (event.ctrlKey || event.metaKey) {
      const pixels = Math.max(-NOTCH, Math.min(NOTCH, unit * event.deltaY));
      this.zoom(Math.exp(-WHEEL * pixels), this.second(event));
    } else if (this.zoomed && Math.abs(sideways) >= Math.abs(event.shiftKey ? 0 : event.deltaY)) {
      this.show(this.start + (this.seconds * unit * sideways) / event.currentTarget.clientWidth);
    } else {
      return; // scrolls the page
    }
    event.preventDefault();
  }

  #possible(seconds) {
    return Math.min(this.total, Math.max(CLOSEST, seconds));
  }
}

function across(event) {
  const box = event.currentTarget.getBoundingClientRect();
  return (event.clientX - box.left) / box.width;
}
