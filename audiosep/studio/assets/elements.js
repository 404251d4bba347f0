// Elements of the page, as its parts find, make and change them.

export function part(root, name) {
  return root.querySelector(`.studio-${name}`);
}

export function button(text, action) {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = text;
  made.addEventListener("click", action);
  return made;
}

// Presses a button that stays pressed, or releases it; whether it is pressed now.
export function press(pressed) {
  const now = pressed.ariaPressed !== "true";
  pressed.ariaPressed = String(now);
  return now;
}

// Changes nothing that is so already: a page at rest is not drawn again and again.
export function change(owner, name, value) {
  if (owner[name] !== value) owner[name] = value;
}
