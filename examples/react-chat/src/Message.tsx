/* One message. A token of a reply renders this component, and no other. */
import { memo } from "react";
import { useMessage } from "./hooks";

interface Props {
  readonly chat: string;
  readonly id: string;
  readonly isLast: boolean;
  readonly again: () => void;
  readonly decide: (approval: string, approved: boolean) => void;
  readonly show: (sibling: string) => void;
}

const DID = {
  streaming: "Calling",
  waiting: "Wants to use",
  running: "Using",
  complete: "Used",
  error: "Could not use",
  denied: "Was not allowed to use",
};

export const Message = memo(function Message({ chat, id, isLast, again, decide, show }: Props) {
  const message = useMessage(chat, id);
  if (message === undefined) return null;
  const { role, status, parts, siblings, author, model, error, run } = message, at = siblings.indexOf(id);
  const before = siblings[at - 1], after = siblings[at + 1];
  return (
    <li className={`${role} ${status}`}>
      <h3>{role === "user" ? author ?? "You" : model ?? "Reply"}</h3>
      {parts.map((part, number) =>
        part.type === "reasoning" ? <details key={number}><summary>Reasoning</summary>{"text" in part && part.text}</details>
        : part.type === "tool" && "name" in part ? (
          <p key={number} className="tool">
            {DID[part.status]} {part.name}
            {part.status === "waiting" && part.approval !== undefined && part.approval.approved === undefined && (
              <Buttons id={part.approval.id} decide={decide} />
            )}
          </p>
        )
        : part.type === "source" && "url" in part ? <p key={number}><a href={part.url} rel="noreferrer">{part.title ?? part.url}</a></p>
        : part.type === "text" && "text" in part ? <p key={number}>{part.text}</p>
        : null)}
      {run?.["status"] !== undefined && <p className="hint">{run["status"]}</p>}
      {error && <p className="problem">{error.message}</p>}
      {status === "stopped" && <p className="hint">Stopped</p>}
      <div className="actions">
        {siblings.length > 1 && (
          <>
            <button aria-label="Previous version" disabled={before === undefined} onClick={() => before && show(before)}>‹</button>
            <span>{at + 1} of {siblings.length}</span>
            <button aria-label="Next version" disabled={after === undefined} onClick={() => after && show(after)}>›</button>
          </>
        )}
        {role === "assistant" && isLast && status !== "streaming" && status !== "waiting" && <button onClick={again}>Regenerate</button>}
      </div>
    </li>
  );
}, (one, other) => one.id === other.id && one.isLast === other.isLast); // `again`, `decide` and `show` do the same in each rendering

function Buttons({ id, decide }: { readonly id: string } & Pick<Props, "decide">) {
  return (
    <span className="actions">
      <button onClick={() => decide(id, true)}>Approve</button>
      <button onClick={() => decide(id, false)}>Deny</button>
    </span>
  );
}
