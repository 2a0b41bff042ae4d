/* address.js: the URL of a server, as a page passes it.
 *
 * Invariants: no message repeats the URL, which may contain a password.
 */
import { StatestreamError } from "./errors.js";

const ROUTES = ["/stream/state", "/dispatch"]; // routes that are sometimes passed with the root

/** The server's root as a URL whose path ends with `/`. In a page, it may be relative to that. Throws. */
export function rootOf(text) {
  let url;
  try {
    url = new URL(text, globalThis.location?.href);
  } catch {
    throw malformed("one that cannot be parsed; outside of a page, it begins with http:// or https://");
  }
  if (!["http:", "https:"].includes(url.protocol)) throw malformed("one with a scheme other than http or https");
  if (url.username || url.password) throw malformed("one with a login; use `token`, or `fetch` with a header");
  if (url.search || url.hash) throw malformed("one with a query or a fragment; leave these out");
  const path = url.pathname.replace(/\/+$/, ""), route = ROUTES.find((route) => path.endsWith(route));
  if (route !== undefined) throw malformed(`the URL of a route; leave out ${route}`);
  url.pathname = `${path}/`;
  return url;
}

function malformed(problem) {
  return new StatestreamError(`expected the root URL of a server, got ${problem}`, { code: "malformed" });
}
