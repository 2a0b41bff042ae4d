/* pointer.js: places in a value, and how a change is described by them.
 *
 * Invariants: pure. A place is an array of names; a name is any text, also `__proto__`, so nothing is looked up but what
 * an object has itself.
 */
import { preview } from "./format.js";

const SIGNS = { add: "+", replace: "~", remove: "-" };

export const segmentsOf = (pointer) =>
  pointer === "" ? [] : pointer.slice(1).split("/").map((part) => part.replaceAll("~1", "/").replaceAll("~0", "~"));

export const pointerOf = (segments) =>
  segments.map((part) => `/${String(part).replaceAll("~", "~0").replaceAll("/", "~1")}`).join("");

/** A key for maps: no two places of any slices have the same. */
export const idOf = (slice, segments) => `${slice}\n${pointerOf(segments)}`;

/** What an object or array has at a place; undefined if there is nothing. */
export function at(value, segments) {
  for (const name of segments) {
    if (value === null || typeof value !== "object" || !Object.hasOwn(value, name)) return undefined;
    value = value[name];
  }
  return value;
}

/** The name of a change: that of its action, if it has one. */
export const titleOf = ({ kind, cause }) => cause?.type ?? (kind === "initial" ? "whole state" : "several actions");

/** What a change did, in one line: `+ /tasks/0 {…}`. */
export function summary({ kind, patches, value, reason }) {
  if (kind === "initial") return `sent because of: ${reason}`;
  if (kind === "removed") return "- removed";
  if (kind === "value") return `= ${preview(value, 80)}`;
  if (!patches.length) return "nothing that you may see";
  const [{ op, path, value: added }] = patches, more = patches.length > 1 ? ` and ${patches.length - 1} more` : "";
  const what = op === "remove" ? "" : ` ${preview(added, 60)}`;
  return `${SIGNS[op] ?? op} ${preview(path || "/", 60).slice(1, -1)}${what}${more}`;
}
