/* elements.js: elements of the page, and its icons.
 *
 * Invariants: text becomes text, never markup. Nothing is written to an element that it has already.
 */

const SVG = "http://www.w3.org/2000/svg";

/** Paths on a grid of 24, drawn as lines. */
const ICONS = {
  plus: "M12 5v14M5 12h14",
  send: "M12 19V5M6 11l6-6 6 6",
  stop: "M7 7h10v10H7z",
  copy: "M9 9h10v10H9zM5 15V5h10",
  check: "M5 12.5l4.5 4.5L19 7.5",
  again: "M20 11a8 8 0 1 0-2.3 6M20 5v6h-6",
  edit: "M4 20h4L19 9l-4-4L4 16zM13 7l4 4",
  left: "M14.5 6l-6 6 6 6",
  right: "M9.5 6l6 6-6 6",
  down: "M12 5v14M6 13l6 6 6-6",
  fold: "M6 9.5l6 6 6-6",
  search: "M11 4a7 7 0 1 0 0 14 7 7 0 0 0 0-14zM16 16l4.5 4.5",
  menu: "M4 7h16M4 12h16M4 17h16",
  close: "M6 6l12 12M18 6L6 18",
  attach: "M20 11.5l-8.3 8.3a5.2 5.2 0 0 1-7.4-7.4l8.6-8.6a3.5 3.5 0 0 1 5 5l-8.5 8.5a1.7 1.7 0 0 1-2.5-2.5l7.9-7.9",
  people:
    "M9 11a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7zM2.5 20a6.5 6.5 0 0 1 13 0M16 4.3a3.5 3.5 0 0 1 0 6.5M18 14.5a6.5 6.5 0 0 1 3.5 5.5",
  board: "M4 6.5l1.5 1.5L8.5 5M4 13.5l1.5 1.5 3-3M12 6.5h8M12 13.5h8M6 20h14",
  trash: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13M10 11v5M14 11v5",
  warning: "M12 4L2.5 20h19zM12 10v4M12 17v.5",
  file: "M6 3h8l4 4v14H6zM14 3v4h4",
  tool: "M14.5 6.5a4 4 0 0 1 5-3.9L17 5.2v2h2l2.6-2.5a4 4 0 0 1-5.4 4.8L8 17.7a2 2 0 0 1-3-3z",
  thought: "M9 18h6M10 21h4M12 3a6 6 0 0 0-3.5 10.9c.6.5 1 1.2 1 2.1h5c0-.9.4-1.6 1-2.1A6 6 0 0 0 12 3z",
  sun: "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM12 2v2M12 20v2M2 12h2M20 12h2M5 5l1.5 1.5M17.5 17.5L19 19M19 5l-1.5 1.5M6.5 17.5L5 19",
  link: "M10 14a4 4 0 0 0 6 .5l3-3a4 4 0 0 0-6-6l-1 1M14 10a4 4 0 0 0-6-.5l-3 3a4 4 0 0 0 6 6l1-1",
};

/** An element with properties and children. `on…` are listeners, `data` the data set, names with a dash attributes. */
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "data") Object.assign(made.dataset, value);
    else if (name.includes("-") || name === "role" || name === "for") made.setAttribute(name, value);
    else made[name] = value;
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

export function icon(name) {
  const drawn = document.createElementNS(SVG, "svg"),
    path = document.createElementNS(SVG, "path");
  for (const [key, value] of Object.entries({ viewBox: "0 0 24 24", "aria-hidden": "true", class: "icon" }))
    drawn.setAttribute(key, value);
  path.setAttribute("d", ICONS[name]);
  drawn.append(path);
  return drawn;
}

/** A button that shows an icon. Its name is also what people see when they point at it. */
export function iconButton(name, label, onclick, more = {}) {
  return element(
    "button",
    { type: "button", title: label, ariaLabel: label, className: "icon-button", onclick, ...more },
    icon(name),
  );
}

/** Sets the text of an element. */
export function say(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

export function show(target, visible) {
  if (target.hidden === visible) target.hidden = !visible;
}

/** Makes these the children of an element, and moves only those that are elsewhere: a moved element loses the focus. */
export function arrange(parent, children) {
  const wanted = new Set(children);
  for (const child of [...parent.children]) if (!wanted.has(child)) child.remove();
  children.forEach((child, at) => {
    if (parent.children[at] !== child) parent.insertBefore(child, parent.children[at] ?? null);
  });
}

/** Copies a text, and says so on the button for a moment. */
export async function copy(text, button) {
  const label = button.ariaLabel;
  const done = await write(text);
  button.classList.toggle("done", done);
  button.replaceChildren(icon(done ? "check" : "warning"));
  button.ariaLabel = button.title = done ? "Copied" : "Copying is not allowed here";
  setTimeout(() => {
    button.classList.remove("done");
    button.replaceChildren(icon("copy"));
    button.ariaLabel = button.title = label;
  }, 1500);
}

/** The clipboard exists on https pages and on this machine only; elsewhere, a selection is copied. */
async function write(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const field = element("textarea", { value: text, className: "hidden-label", readOnly: true });
    const { activeElement } = document;
    document.body.append(field);
    field.select();
    const done = document.execCommand("copy");
    field.remove();
    activeElement?.focus?.();
    return done;
  }
}
