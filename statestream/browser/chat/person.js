/* person.js: who sits in front of this page. The demo's server believes a cookie; your application knows better.
 *
 * Invariants: all tabs of a browser are one person. If one of them becomes somebody else, so do the others.
 */
const ANIMALS = ["otter", "heron", "lynx", "badger", "swift", "newt", "marten", "kite"];
const MAX_NAME = 64;
const YEAR_S = 31_536_000;

const stored = () => {
  const [, value] = document.cookie.match(/(?:^|; )guest=([^;]+)/) ?? [];
  try {
    return value === undefined ? null : decodeURIComponent(value);
  } catch {
    return null;
  }
};

const store = (name) => {
  document.cookie = `guest=${encodeURIComponent(name)}; path=/; SameSite=Strict; max-age=${YEAR_S}`;
};

function invented() {
  const [animal, ...rest] = crypto.getRandomValues(new Uint8Array(3));
  return `${ANIMALS[animal % ANIMALS.length]}-${rest.map((byte) => byte % 36).reduce((text, digit) => text + digit.toString(36), "")}`;
}

/** What is wrong with a name; null if nothing is. */
export function problemWith(name) {
  if (name === "") return "Write a name.";
  if ([...name].length > MAX_NAME) return `A name can have ${MAX_NAME} characters.`;
  if (/[\p{C}\p{Zl}\p{Zp}]/u.test(name)) return "A name cannot have invisible characters.";
  if (["__proto__", "constructor", "prototype"].includes(name)) return "This name is taken.";
  return null;
}

/** The name of the person, who gets one with the first visit. */
export function whoAmI() {
  const name = stored();
  const me = name !== null && problemWith(name) === null ? name : invented();
  store(me); // also so that it lasts
  const others = new BroadcastChannel("statestream-chat-person");
  others.onmessage = () => stored() !== me && begin();
  return me;
}

/** Loads the page without a chat in its address: the chat of the one before is not to be joined by the one after. */
const begin = () => location.replace(location.pathname + location.search);

/** From here on, this browser is somebody else. The page is loaded again, and has their chats. */
export function become(name) {
  store(name);
  new BroadcastChannel("statestream-chat-person").postMessage("changed");
  begin();
}
