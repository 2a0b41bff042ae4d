/* patch.js: operations of RFC 6902, applied to values that never change.
 *
 * Invariants: pure. A patch makes new objects on its path, and keeps the identity of all others. What does not fit
 * throws a Gap, and leaves everything as it was. No path leads to `__proto__`, nor to anything that is inherited.
 */
import { Gap } from "./errors.js";
import { copied, equal, isContainer, shared } from "./sharing.js";

const POINTER = /^(?!.*\/__proto__(\/|$))(\/([^~/]|~[01])*)*$/s; // RFC 6901; rule 3.2 forbids the name `__proto__`
const INDEX = /^(0|[1-9][0-9]*)$/;
const NOWHERE = "a path leads nowhere";
const WITH_VALUE = ["add", "replace", "test"];

/** The document after the operations. */
export function patched(document, operations) {
  const whole = { "": document }; // every pointer begins with an empty segment, so the root is a member like any other
  let fresh = new Set([whole]); // containers that were made here, and may be changed
  for (const { op, path, from, value } of operations) {
    const segments = segmentsOf(path);
    if (WITH_VALUE.includes(op) && value === undefined) throw new Gap("an operation has no value");
    switch (op) {
      case "add":
      case "replace":
      case "remove":
        change(whole, segments, fresh, op, value);
        break;
      case "test":
        if (!equal(valueAt(whole, segments), value)) throw new Gap("a test failed");
        break;
      case "move": {
        const moved = valueAt(whole, segmentsOf(from));
        if (path === from) break;
        if (path.startsWith(`${from}/`)) throw new Gap("a value cannot be moved into itself");
        change(whole, segmentsOf(from), fresh, "remove");
        change(whole, segments, fresh, "add", moved);
        break;
      }
      case "copy": {
        const value = valueAt(whole, segmentsOf(from));
        fresh = new Set([whole]); // a value in two places must not be changed in place
        change(whole, segments, fresh, "add", value);
        break;
      }
      default:
        throw new Gap("an operation is not one of RFC 6902");
    }
  }
  return whole[""];
}

function segmentsOf(pointer) {
  if (typeof pointer !== "string" || !POINTER.test(pointer)) throw new Gap("a path is not a JSON Pointer");
  return pointer.split("/").map((segment) => segment.replaceAll("~1", "/").replaceAll("~0", "~"));
}

const valueAt = (whole, segments) => segments.reduce(memberOf, whole);

function memberOf(container, key) {
  if (!isContainer(container) || !Object.hasOwn(container, key)) throw new Gap(NOWHERE);
  if (Array.isArray(container) && key === "length") throw new Gap(NOWHERE);
  return container[key];
}

/** Changes one member, after copying the containers on its path that were not made here. */
function change(whole, segments, fresh, op, value) {
  let target = whole;
  for (const segment of segments.slice(0, -1)) target = target[segment] = writable(memberOf(target, segment), fresh);
  const key = segments.at(-1);
  if (Array.isArray(target)) changeElement(target, op, key, value);
  else if (op !== "add" && !Object.hasOwn(target, key)) throw new Gap(NOWHERE);
  else if (op !== "remove") target[key] = op === "replace" ? shared(target[key], value) : value;
  else if (target !== whole) delete target[key];
  else throw new Gap("the root cannot be removed");
}

function changeElement(target, op, key, value) {
  const position = op === "add" && key === "-" ? `${target.length}` : key; // `-` is the place after the last element
  const index = Number(position), last = target.length - (op === "add" ? 0 : 1);
  if (!INDEX.test(position) || index > last) throw new Gap(NOWHERE);
  if (op === "add") target.splice(index, 0, value);
  else if (op === "remove") target.splice(index, 1);
  else target[index] = shared(target[index], value);
}

function writable(container, fresh) {
  if (!isContainer(container)) throw new Gap(NOWHERE);
  if (fresh.has(container)) return container;
  const copy = copied(container);
  fresh.add(copy);
  return copy;
}
