/* sharing.js: values that share what they have in common, so that `===` tells what has changed.
 *
 * Invariants: pure; no value that exists is changed. What is compared is JSON: the order of members has no meaning.
 */

const MAX_DEPTH = 64; // of a value (rule 3.2); what is deeper is not compared, so that nothing can exhaust the stack

export const isContainer = (value) => value !== null && typeof value === "object";

/** `after`, with each part of it that equals the same part of `before` replaced by that; `before` if they are equal. */
export function shared(before, after, depth = MAX_DEPTH) {
  if (before === after || !isContainer(before) || !isContainer(after)) return after;
  if (depth === 0 || Array.isArray(before) !== Array.isArray(after)) return after;
  const names = Object.keys(after);
  let same = names.length === Object.keys(before).length, copy = null;
  for (const name of names) {
    const held = Object.hasOwn(before, name), part = held ? shared(before[name], after[name], depth - 1) : after[name];
    if (!held || part !== before[name]) same = false;
    if (part === after[name] || name === "__proto__") continue;
    copy ??= copied(after);
    copy[name] = part;
  }
  return same ? before : copy ?? after;
}

export const copied = (container) => (Array.isArray(container) ? container.slice() : { ...container });

export function equal(a, b, depth = MAX_DEPTH) {
  if (a === b) return true;
  if (!isContainer(a) || !isContainer(b) || depth === 0) return false;
  const names = Object.keys(a);
  if (Array.isArray(a) !== Array.isArray(b) || names.length !== Object.keys(b).length) return false;
  return names.every((name) => Object.hasOwn(b, name) && equal(a[name], b[name], depth - 1));
}

/** Whether two values are the same, or two objects or arrays whose members are the same. */
export function areShallowEqual(one, other) {
  if (Object.is(one, other)) return true;
  if (!isContainer(one) || !isContainer(other)) return false;
  const names = Object.keys(one);
  if (Array.isArray(one) !== Array.isArray(other) || names.length !== Object.keys(other).length) return false;
  return names.every((name) => Object.hasOwn(other, name) && Object.is(one[name], other[name]));
}
