import { StrictMode, useState } from "react";
import { createRoot } from "react-dom/client";
import { StatestreamError } from "statestream";
import { StatestreamProvider } from "statestream/react";
import type { Task } from "./board";
import { useDispatch, useHealth, useSlice } from "./hooks";

function Item({ task }: { readonly task: Task }) {
  return <li>{task.title}</li>;
}

function Board() {
  const tasks = useSlice("board", (board) => board.tasks), { phase } = useHealth(), dispatch = useDispatch();
  const [problem, setProblem] = useState("");

  async function add(form: FormData) {
    try {
      await dispatch("board/task_added", { id: String(form.get("title")), title: String(form.get("title")) });
      setProblem("");
    } catch (error) {
      setProblem(error instanceof StatestreamError ? error.detail : String(error));
    }
  }

  return (
    <>
      <output>{phase}</output>
      <ul>{tasks?.map((task) => <Item key={task.id} task={task} />)}</ul>
      <form action={add}>
        <input name="title" aria-label="Title" />
      </form>
      <p role="alert">{problem}</p>
    </>
  );
}

createRoot(document.getElementById("root")!).render(
  <StrictMode>
    <StatestreamProvider url="/" slices={["board", "counter", "room/*"]}>
      <Board />
    </StatestreamProvider>
  </StrictMode>,
);
