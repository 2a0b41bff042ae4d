/* render.jsx: the page on a server: renders what the server at argv[2] has, and says {html, snapshot}. */
import { text } from "node:stream/consumers";
import { PassThrough } from "node:stream";
import { StrictMode } from "react";
import { renderToPipeableStream } from "react-dom/server";
import { Page } from "./components.jsx";

const [, , url, query] = process.argv;

async function run() {
  const slices = new URLSearchParams(query).get("slices");
  const response = await fetch(`${url}/state?slices=${slices}`), snapshot = await response.json();
  globalThis.seen = {};
  const page = <StrictMode><Page query={query} snapshot={snapshot} /></StrictMode>, output = new PassThrough();
  const { pipe } = renderToPipeableStream(page, { onAllReady: () => pipe(output) });
  console.log(JSON.stringify({ html: await text(output), snapshot }));
}

void run();
