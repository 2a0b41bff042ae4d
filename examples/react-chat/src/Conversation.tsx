/* One chat: its messages, who else is here, and a field to write in. */
import { useState, type KeyboardEvent, type SubmitEvent } from "react";
import { StatestreamError } from "statestream";
import { useChat, usePresence } from "./hooks";
import { Message } from "./Message";

const SAID: Partial<Record<string, string>> = { streaming: "A reply is being written.", waiting: "A tool call waits." };

export function Conversation({ id, me }: { readonly id: string | undefined; readonly me: string }) {
  // It reads `ids` and not `messages`: while a reply grows, only its <Message> is rendered.
  const { ids, status, title, error, send, stop, regenerate, branch, decide, hasOlder, loadOlder } = useChat(id);
  const [problem, setProblem] = useState("");

  /** Does something in the chat, and shows the sentence with which the server refuses it. */
  async function attempt(work: () => Promise<unknown>): Promise<boolean> {
    try {
      await work();
      setProblem("");
      return true;
    } catch (error) {
      const { code, detail } = error instanceof StatestreamError ? error : { code: "", detail: String(error) };
      setProblem(code === "unavailable" ? "The server does not answer. Try again: nothing happens twice." : detail);
      return false;
    }
  }

  return (
    <main>
      <div className="title">
        <h2>{id === undefined ? "New chat" : title ?? "Untitled"}</h2>
        {id !== undefined && <People chat={id} me={me} />}
      </div>
      <div className="scroll" tabIndex={0} role="region" aria-label="Messages">
        {id === undefined && <p className="hint">Ask something. Then open the address of the chat in another window, as somebody else.</p>}
        {hasOlder && <button className="older" onClick={() => attempt(loadOlder)}>Older messages</button>}
        <ol>
          {id !== undefined && ids.map((message, at) => (
            <Message key={message} chat={id} id={message} isLast={at === ids.length - 1}
              again={() => attempt(() => regenerate(message))} show={(sibling) => attempt(() => branch(sibling))}
              decide={(approval, approved) => attempt(() => decide(approval, approved))} />
          ))}
        </ol>
      </div>
      <p className="problem" role="alert">{problem || error?.detail}</p>
      <p className="unseen" role="status">{SAID[status] ?? ""}</p>
      {id === undefined
        ? <Composer send={(text) => attempt(async () => (location.hash = await send(text)))} />
        : <ComposerOf chat={id} isStreaming={status in SAID} send={(text) => attempt(() => send(text))} stop={() => attempt(stop)} />}
    </main>
  );
}

function People({ chat, me }: { readonly chat: string; readonly me: string }) {
  const { people } = usePresence(chat);
  const typing = people.filter((person) => person.typing && person.name !== me).map(({ name }) => name);
  return (
    <div className="people">
      <ul aria-label="Who is here">{people.map(({ name }) => <li key={name}>{name}</li>)}</ul>
      <span role="status">{typing.length > 0 && `${typing.join(", ")} ${typing.length > 1 ? "are" : "is"} typing`}</span>
    </div>
  );
}

interface ComposerProps {
  readonly send: (text: string) => Promise<boolean>;
  readonly stop?: () => void;
  readonly isStreaming?: boolean;
  readonly setTyping?: (isTyping?: boolean) => void;
}

function ComposerOf({ chat, ...props }: ComposerProps & { readonly chat: string }) {
  const { setTyping } = usePresence(chat);
  return <Composer {...props} setTyping={setTyping} />;
}

function Composer({ send, stop, isStreaming = false, setTyping }: ComposerProps) {
  const [text, setText] = useState("");

  async function submit(event: SubmitEvent | KeyboardEvent) {
    event.preventDefault();
    if (text.trim() === "" || isStreaming) return;
    setTyping?.(false);
    if (await send(text)) setText((now) => (now === text ? "" : now)); // what was refused stays in the field
  }

  return (
    <form className="composer" onSubmit={submit}>
      <textarea rows={2} value={text} aria-label="Your message" placeholder="Ask something" autoFocus
        onChange={({ target }) => (setText(target.value), setTyping?.())}
        onKeyDown={(event) => event.key === "Enter" && !event.shiftKey && !event.nativeEvent.isComposing && void submit(event)} />
      {isStreaming ? <button type="button" onClick={stop}>Stop</button> : <button className="main">Send</button>}
    </form>
  );
}
