/* selection.js: what clients select: items as in `slices=`, or null for every plain slice (rule 4.2 of the protocol).
 *
 * Invariants: pure. Whether an item is spelled correctly is for the server to say. A selection has each item once, in
 * order, so equal ones have equal JSON.
 */

/** The items of an array, or of a text with commas. */
export function selectionOf(slices) {
  return slices === undefined ? null : ordered(String(slices).split(","));
}

/** Whether `selection` selects the slice or instance of that name. */
export function selects(selection, name) {
  return selection === null ? !name.includes("/") : hasItem(selection, name);
}

/** Whether `selection` selects everything that `items` do. */
export function covers(selection, items) {
  if (selection === null || items === null) return selection === items;
  return items.every((item) => hasItem(selection, item));
}

/** The smallest selection that covers all of these, which all have items, or all have none. */
export function unionOf(selections) {
  if (selections.includes(null)) return null;
  const items = ordered(selections.flat());
  return items.filter((item) => !hasItem(items.filter((other) => other !== item), item));
}

export const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);

const ordered = (items) => [...new Set(items)].sort();

function hasItem(items, item) {
  const slash = item.indexOf("/");
  return items.includes(item) || items.includes("*") || (slash > 0 && items.includes(`${item.slice(0, slash)}/*`));
}
