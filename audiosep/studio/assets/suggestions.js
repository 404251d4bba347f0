// The sounds that were heard in the recording, each a button that separates it.

import { button } from "./elements.js";
import { spanText } from "./times.js";

const SURE = 0.5; // from which on what is heard is more probable than not

export class Suggestions {
  // separate(name): asks for a sound; paint(spans): shows where it was heard, or no more
  constructor(box, { separate, paint }) {
    Object.assign(this, { box, separate, paint });
  }

  show(heard) {
    // How sure it is says no number here: it is of all names that it may have, before anything is separated, while that
    // of a track is of one name, after it.
    const groups = { "Heard:": [], "Perhaps:": [] };
    for (const sound of heard) groups[sound.score >= SURE ? "Heard:" : "Perhaps:"].push(sound);
    const shown = Object.entries(groups).filter(([, sounds]) => sounds.length);
    this.box.replaceChildren(...shown.map(([title, sounds]) => {
      const group = document.createElement("div");
      group.role = "group";
      group.ariaLabel = title;
      group.append(title, ...sounds.map((sound) => this.#chip(sound)));
      return group;
    }));
  }

  #chip(sound) {
    const chip = button(sound.name, () => this.separate(sound.name));
    chip.dataset.sound = sound.name;
    chip.title = `Separate ${sound.name}: heard at ${spanText(sound.spans)}`;
    for (const event of ["pointerenter", "focus"]) chip.addEventListener(event, () => this.paint(sound.spans));
    for (const event of ["pointerleave", "blur"]) chip.addEventListener(event, () => this.paint());
    return chip;
  }
}
