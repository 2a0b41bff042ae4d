/* The frame: who you are, your chats, and the one that the address names. */
import { useEffect, useState, useSyncExternalStore } from "react";
import { StatestreamProvider } from "statestream/react";
import { Conversation } from "./Conversation";
import { useHealth, useSlice } from "./hooks";
import type { ChatList } from "./state";

const PHASES = { connecting: "Connecting", live: "Live", waiting: "Reconnecting", ended: "Disconnected" };

function nameInCookie(): string {
  try {
    return decodeURIComponent(/(?:^|; )guest=([^;]*)/.exec(document.cookie)?.[1] ?? "");
  } catch {
    return ""; // somebody else has set it
  }
}

export function App() {
  const [me, setMe] = useState(nameInCookie);

  function enter(form: FormData) {
    const name = String(form.get("name")).trim();
    document.cookie = `guest=${encodeURIComponent(name)}; path=/; max-age=31536000; samesite=lax`;
    setMe(name);
  }

  if (me === "") return <SignIn enter={enter} />;
  // The slice with your chats is followed all the time. The hooks follow the chat that is open, while it is open.
  return (
    <StatestreamProvider key={me} url="/" identity={me} slices={[`chats/${encodeURIComponent(me)}`]}>
      <Frame me={me} leave={() => setMe("")} />
    </StatestreamProvider>
  );
}

function SignIn({ enter }: { readonly enter: (form: FormData) => void }) {
  return (
    <main className="signin">
      <form action={enter}>
        <h1>Chat</h1>
        <label htmlFor="name">Your name, as others see it</label>
        <input id="name" name="name" required maxLength={30} pattern="[\p{L}\p{N} ._\-]*[\p{L}\p{N}][\p{L}\p{N} ._\-]*" title="Letters, digits, spaces, and . _ -" autoComplete="nickname" />
        <button className="main">Continue</button>
      </form>
    </main>
  );
}

function Frame({ me, leave }: { readonly me: string; readonly leave: () => void }) {
  const id = useHash();
  const { phase } = useHealth();
  const chats = useSlice(`chats/${encodeURIComponent(me)}`, ({ chats }) => chats) ?? {};
  const isMine = id === undefined || Object.hasOwn(chats, id);
  const [refused, setRefused] = useState<string>();

  // Whoever has the link of a chat takes part in it: it comes into their list.
  useEffect(() => {
    if (id === undefined || isMine) return;
    const joining = fetch(`/join/${encodeURIComponent(id)}`, { method: "POST" });
    void joining.then(({ ok }) => !ok && setRefused(id), () => setRefused(id));
  }, [id, isMine]);

  return (
    <div className="frame">
      <header>
        <h1>Chat</h1>
        <p className={`status ${phase}`} role="status">{PHASES[phase]}</p>
        <button onClick={leave} aria-label={`${me}: change your name`}>{me}</button>
      </header>
      <Chats chats={chats} open={id} />
      {isMine ? <Conversation key={id} id={id} me={me} /> : <main>{refused === id && <NoChat />}</main>}
    </div>
  );
}

function NoChat() {
  return <><h2>There is no such chat</h2><p className="hint">It was deleted, or its address is not complete.</p></>;
}

function Chats({ chats, open }: { readonly chats: ChatList["chats"]; readonly open: string | undefined }) {
  const newest = Object.entries(chats).sort(([, a], [, b]) => b.updated_at - a.updated_at);
  return (
    <nav aria-label="Chats">
      <a className="main" href="#">New chat</a>
      <ul>
        {newest.map(([id, { title, status }]) => (
          <li key={id}>
            <a href={`#${id}`} aria-current={id === open ? "page" : undefined} className={status}>{title ?? "Untitled"}</a>
          </li>
        ))}
      </ul>
    </nav>
  );
}

function onHashChange(listener: () => void) {
  addEventListener("hashchange", listener);
  return () => removeEventListener("hashchange", listener);
}

/** The id of the chat in the address, after the #. */
const useHash = () => useSyncExternalStore(onHashChange, () => location.hash.slice(1)) || undefined;
