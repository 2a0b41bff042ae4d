/* times.js: moments as people say them.
 *
 * Invariants: pure, in the time zone and language of the browser.
 */

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const date = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", year: "numeric" });

const dayOf = (ms) => new Date(ms).setHours(0, 0, 0, 0);
const daysAgo = (ms, now) => Math.round((dayOf(now) - dayOf(ms)) / 86_400_000);

/** The heading under which a chat of that moment stands in the sidebar. */
export function era(ms, now = Date.now()) {
  const days = daysAgo(ms, now);
  return days <= 0 ? "Today" : days === 1 ? "Yesterday" : days < 7 ? "This week" : days < 31 ? "This month" : "Older";
}

export const timeOf = (ms, now = Date.now()) =>
  daysAgo(ms, now) <= 0 ? clock.format(ms) : `${date.format(ms)}, ${clock.format(ms)}`;
