/* page.jsx: the page in a browser. If a server has rendered it, it is hydrated, and SNAPSHOT is what was shown. */
import { StrictMode } from "react";
import { createRoot, hydrateRoot } from "react-dom/client";
import { connect } from "statestream";
import { Page, renders } from "./components.jsx";

Object.assign(globalThis, { renders, recovered: [], connect });
const container = document.getElementById("root"), query = location.search;
const client = query.includes("client=") ? (globalThis.client = connect("/")) : undefined;
const Mode = query.includes("mode=plain") ? "div" : StrictMode;
const page = <Mode><Page query={query} client={client} snapshot={globalThis.SNAPSHOT} /></Mode>;
const onRecoverableError = (error) => recovered.push(String(error));
if (container.hasChildNodes()) hydrateRoot(container, page, { onRecoverableError });
else createRoot(container).render(page);
