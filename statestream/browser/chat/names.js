/* names.js: people as the page shows them: a name, or two letters on a colour.
 *
 * Invariants: a name is somebody's own text, so it is isolated from what stands around it. The same name has the same
 * colour everywhere.
 */
import { element } from "./elements.js";

const TINTS = 8;

/** The name, in its own direction. */
export const nameOf = (name) => element("bdi", { className: "name" }, name);

export function avatarOf(name, className = "") {
  const letters = name
    .split(/[\s._-]+/u)
    .filter((word) => word !== "")
    .slice(0, 2)
    .map((word) => [...word][0].toUpperCase());
  const face = element(
    "span",
    { className: `avatar ${className}`, ariaHidden: "true" },
    element("bdi", {}, letters.join("") || "?"),
  );
  face.dataset.tint = String([...name].reduce((sum, letter) => (sum * 31 + letter.codePointAt(0)) % 9973, 7) % TINTS);
  return face;
}

/** Names in a sentence: `ana`, `ana and ben`, `ana, ben and 3 others`. */
export function listed(names) {
  const parts = names.length > 3 ? [...names.slice(0, 2).map(nameOf), `${names.length - 2} others`] : names.map(nameOf);
  return parts.flatMap((part, at) => [at === 0 ? "" : at === parts.length - 1 ? " and " : ", ", part]);
}
