/* replica.mjs: the browser's replica behind lines of JSON, so that another language can hold it to account.
 *
 * Invariants: what is given is frozen to its depth before it is used: whoever writes to it throws. Values go out as text
 * with their members in one order, because two documents are the same when that text is.
 */
import { createInterface } from "node:readline";
import jsonpatch from "fast-json-patch";
import { patched } from "../../statestream/browser/patch.js";
import { shared } from "../../statestream/browser/sharing.js";
import { Replica } from "../../statestream/browser/replica.js";

function frozen(value) {
  if (value !== null && typeof value === "object") {
    Object.values(value).forEach(frozen);
    Object.freeze(value);
  }
  return value;
}

/** The value with the members of every object in the order that `compare` says, which text then shows. */
function ordered(value, compare = (a, b) => (a < b ? -1 : 1)) {
  if (Array.isArray(value)) return value.map((item) => ordered(item, compare));
  if (value === null || typeof value !== "object") return value;
  const names = Object.keys(value).sort(compare);
  return Object.fromEntries(names.map((name) => [name, ordered(value[name], compare)]));
}

const text = (value) => JSON.stringify(ordered(value));
const segments = (path) => path.split("/").slice(1);

/** Where `after` has a copy of what no operation touches, as a path; null if there is no such place. */
function copied(before, after, paths, place = "") {
  if (paths.length === 0) return before === after || before === null || typeof before !== "object" ? null : place;
  if (before === null || typeof before !== "object" || paths.some((path) => path.length === 0)) return null;
  if (Array.isArray(before) && paths.some((path) => path.length === 1)) return null; // the elements have moved
  for (const name of Object.keys(before)) {
    const inside = paths.filter((path) => path[0] === name.replaceAll("~", "~0").replaceAll("/", "~1"));
    const found = copied(before[name], after[name], inside.map((path) => path.slice(1)), `${place}/${name}`);
    if (found !== null) return found;
  }
  return null;
}

/** `base` after `patch`, as we and as another library make it of it, and `result` as this language writes it. */
function replay({ base, patch, result }) {
  frozen([base, patch]);
  const reversed = frozen(ordered(base, (a, b) => (a < b ? 1 : -1)));
  const ours = patched(base, patch);
  const copies = structuredClone([base, patch]);
  return {
    expected: text(result),
    ours: text(ours),
    reordered: text(patched(reversed, patch)),
    theirs: text(jsonpatch.applyPatch(copies[0], copies[1], true).newDocument),
    copied: copied(base, ours, patch.map(({ path }) => segments(path))),
  };
}

/** `doc` after `patch` as text, beside what was expected, and what was copied; or why it is a gap. Writing to `doc` would throw. */
function patch({ doc, patch, expected }) {
  frozen([doc, patch]);
  try {
    const after = patched(doc, patch);
    const places = patch.flatMap(({ op, path, from }) => (op === "test" ? [] : op === "move" ? [path, from] : [path]));
    return { after: text(after), expected: text(expected), copied: copied(doc, after, places.map(segments)) };
  } catch (error) {
    if (error.constructor.name !== "Gap") throw error;
    return { gap: error.message };
  }
}

/** A replica of `state` and `versions` after `frames`: what it holds, what it told, and at which frame it saw a gap. */
function follow({ state, versions, frames }) {
  const replica = Object.assign(new Replica(), { state: frozen(state), versions: frozen(versions), position: "1.x" });
  const told = [];
  for (const [index, frame] of frames.entries()) {
    const before = { ...replica };
    try {
      told.push(replica.apply({ type: frame.type, data: JSON.stringify({ heartbeat: 1, ...frame }), lastId: "1.x" }));
    } catch (error) {
      if (error.constructor.name !== "Gap") throw error;
      const kept = before.state === replica.state && before.versions === replica.versions;
      return { ...replica, told, gap: index, kept };
    }
    frozen(replica.state);
  }
  return { ...replica, told, gap: null, kept: true };
}

/** `after` as it shares parts with `before`: whether it is `before`, and which members of it are those of `before`. */
function share({ before, after }) {
  const result = shared(frozen(before), frozen(after));
  const isObject = result !== null && typeof result === "object";
  const kept = isObject ? Object.keys(result).filter((name) => Object.hasOwn(before, name) && result[name] === before[name]) : [];
  return { same: result === before, kept, text: text(result), expected: text(after) };
}

const commands = { replay, patch, follow, share };

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  let answer;
  try {
    answer = { result: commands[command.do](command) };
  } catch (error) {
    answer = { error: error.stack };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
