import { StrictMode, useState, useSyncExternalStore } from "react";
import { createRoot } from "react-dom/client";
import { StatestreamError } from "statestream";
import { client, type Task } from "./board";

const useBoard = () => useSyncExternalStore(client.subscribe, () => client.state.board);
const usePhase = () => useSyncExternalStore(client.subscribe, () => client.health.phase);

function Item({ task }: { readonly task: Task }) {
  return <li>{task.title}</li>;
}

function Board() {
  const board = useBoard(), phase = usePhase();
  const [problem, setProblem] = useState("");

  async function add(form: FormData) {
    try {
      await client.dispatch("board/task_added", { id: String(form.get("title")), title: String(form.get("title")) });
      setProblem("");
    } catch (error) {
      setProblem(error instanceof StatestreamError ? error.detail : String(error));
    }
  }

  return (
    <>
      <output>{phase}</output>
      <ul>{board?.tasks.map((task) => <Item key={task.id} task={task} />)}</ul>
      <form action={add}>
        <input name="title" aria-label="Title" />
      </form>
      <p role="alert">{problem}</p>
    </>
  );
}

createRoot(document.getElementById("root")!).render(<StrictMode><Board /></StrictMode>);
