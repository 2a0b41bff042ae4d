/* diff.js: the differences between two values, as a list of places.
 *
 * Invariants: pure, and bounded: it stops after `most` differences. Parts that are the same object are not looked at.
 */
import { equal, isContainer } from "../sharing.js";

const MAX_DEPTH = 64;

/** Differences {segments, kind, before, after}; the kind is `added`, `removed` or `changed`. `more`: there are others. */
export function diff(before, after, most = 500) {
  const found = [];
  compare(before, after, [], found, most);
  return { found: found.slice(0, most), more: found.length > most };
}

function compare(before, after, segments, found, most) {
  if (before === after || found.length > most) return;
  const both = isContainer(before) && isContainer(after) && Array.isArray(before) === Array.isArray(after);
  if (!both || segments.length > MAX_DEPTH) found.push({ segments, kind: "changed", before, after });
  else if (Array.isArray(before)) compareArrays(before, after, segments, found, most);
  else compareObjects(before, after, segments, found, most);
}

function compareObjects(before, after, segments, found, most) {
  for (const name of Object.keys(before)) {
    if (found.length > most) return;
    if (Object.hasOwn(after, name)) compare(before[name], after[name], [...segments, name], found, most);
    else found.push({ segments: [...segments, name], kind: "removed", before: before[name] });
  }
  for (const name of Object.keys(after)) {
    if (found.length > most) return;
    if (!Object.hasOwn(before, name)) found.push({ segments: [...segments, name], kind: "added", after: after[name] });
  }
}

/** What both begin and end with is the same; in between, elements are compared in order. */
function compareArrays(before, after, segments, found, most) {
  const shorter = Math.min(before.length, after.length);
  let begin = 0, end = 0;
  while (begin < shorter && equal(before[begin], after[begin])) begin += 1;
  while (end < shorter - begin && equal(before.at(-1 - end), after.at(-1 - end))) end += 1;
  const were = before.length - begin - end, are = after.length - begin - end, both = Math.min(were, are);
  for (let at = begin; at < begin + both && found.length <= most; at += 1)
    compare(before[at], after[at], [...segments, String(at)], found, most);
  for (let at = begin + both; at < begin + were && found.length <= most; at += 1)
    found.push({ segments: [...segments, String(at)], kind: "removed", before: before[at] });
  for (let at = begin + both; at < begin + are && found.length <= most; at += 1)
    found.push({ segments: [...segments, String(at)], kind: "added", after: after[at] });
}
