/* format.js: values, sizes and times as text for people.
 *
 * Invariants: pure. What others wrote is text and nothing else: characters that are invisible, or that change the
 * direction of writing, are shown as escapes, so nobody is misled by them.
 */

const CONTROLS = "\\u0000-\\u001f\\u007f-\\u009f\\u00ad\\u061c\\u200b-\\u200f\\u2028-\\u202e\\u2060-\\u206f\\ufeff\\ufff9-\\ufffb";
const BLANKS = "\\u034f\\u115f\\u1160\\u17b4\\u17b5\\u2800\\u3164\\uffa0"; // letters and marks that nothing is drawn of
const SELECTORS = "\\u180b-\\u180f\\ufe00-\\ufe0f\\u{e0000}-\\u{e0fff}"; // of variants, and tags
const HIDDEN = new RegExp(`[${CONTROLS}${BLANKS}${SELECTORS}]`, "gu");
const SHOWN = 160; // characters of a value in one line
const UNITS = ["B", "kB", "MB", "GB"];

const escaped = (code) => (code > 0xffff ? `\\u{${code.toString(16)}}` : `\\u${code.toString(16).padStart(4, "0")}`);

/** Text of which every character can be seen. `keep`: what stays as it is, such as line breaks. */
export const visible = (text, keep = "") =>
  String(text).replace(HIDDEN, (one) => (keep.includes(one) ? one : escaped(one.codePointAt(0))));

/** The beginning of a value, in one line. */
export function preview(value, most = SHOWN) {
  if (typeof value === "string") return cut(JSON.stringify(value.slice(0, most + 1)), most, value.length > most);
  if (value === null || typeof value !== "object") return visible(value);
  const text = outline(value, most);
  return cut(text, most, false);
}

function cut(text, most, longer) {
  const shown = visible(text);
  return shown.length > most || longer ? `${shown.slice(0, most - 1)}…` : shown;
}

/** As JSON, but no more of it than fits: a value may be megabytes. */
function outline(value, left) {
  if (value === null || typeof value !== "object") return JSON.stringify(typeof value === "string" ? value.slice(0, left + 1) : value);
  const array = Array.isArray(value), parts = [];
  for (const name of array ? value.keys() : Object.keys(value)) {
    const part = left < 1 ? "…" : outline(value[name], left - 1);
    parts.push(array ? part : `${JSON.stringify(name)}:${part}`);
    left -= parts.at(-1).length + 1;
    if (left < 0) return `${array ? "[" : "{"}${parts.join(",")},…`;
  }
  return array ? `[${parts.join(",")}]` : `{${parts.join(",")}}`;
}

/** A value in lines, but at most so many characters of it: looking at the rest would take long. */
export function indented(value, most = 20_000) {
  const parts = [];
  let left = most;
  const put = (text) => (parts.push(text), (left -= text.length));
  const walk = (value, indent) => {
    if (value === null || typeof value !== "object") return put(JSON.stringify(typeof value === "string" ? value.slice(0, left + 1) : value) ?? "");
    const names = Array.isArray(value) ? null : Object.keys(value), [begin, end] = names === null ? "[]" : "{}";
    const count = names === null ? value.length : names.length;
    put(begin);
    for (let at = 0; at < count && left >= 0; at += 1) {
      put(`${at ? "," : ""}\n${indent}  ${names === null ? "" : `${JSON.stringify(names[at])}: `}`);
      walk(value[names === null ? at : names[at]], `${indent}  `);
    }
    put(count ? `\n${indent}${end}` : end);
  };
  walk(value, "");
  const text = visible(left < 0 ? parts.join("").slice(0, most) : parts.join(""), "\n");
  return left < 0 ? `${text}\n…` : text;
}

/** The bytes of a value as JSON. */
export const bytesOf = (value) => new TextEncoder().encode(JSON.stringify(value) ?? "").length;

export function size(bytes) {
  let unit = 0;
  for (; bytes >= 1000 && unit < UNITS.length - 1; unit += 1) bytes /= 1000;
  return `${unit === 0 ? bytes : bytes.toFixed(1)} ${UNITS[unit]}`;
}

export const number = (value) => value.toLocaleString("en");

/** A count with its noun, which takes an `s`. */
export const plural = (count, noun, more = false) => `${number(count)}${more ? " or more" : ""} ${noun}${count === 1 && !more ? "" : "s"}`;

export function age(ms) {
  const seconds = Math.max(0, ms) / 1000;
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86_400)} d`;
}

/** A duration in ms, to three digits or so. */
export const duration = (ms) => (ms < 1 ? `${ms.toFixed(2)} ms` : ms < 1000 ? `${ms.toPrecision(3)} ms` : `${(ms / 1000).toPrecision(3)} s`);

export const time = (ms) => (ms ? new Date(ms).toLocaleTimeString("en-GB", { hour12: false }) : "");

export const moment = (ms) => (ms ? `${new Date(ms).toLocaleDateString("sv")} ${time(ms)}` : "");
