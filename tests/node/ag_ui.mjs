/* ag_ui.mjs: the protocol's own client, HttpAgent with all that it checks, behind lines of JSON.
 *
 * A line is {id, do, …}, its answer {id, result} or {id, error}; commands run beside each other. Every answer to `seen`
 * has what the client has complained about by then: a warning of its means an event that it dropped or did not know.
 * `forget` ends all clients, so that a test finds nothing of the one before it.
 *
 * Invariants: nothing of an event is looked at here; what it leads to is the client's own doing.
 */
import { createInterface } from "node:readline";
import { HttpAgent, runHttpRequest, transformHttpEventStream } from "@ag-ui/client";

const warnings = [];
console.warn = (...words) => warnings.push(words.map(String).join(" "));
console.error = () => {}; // a run that failed is in its answer
process.on("unhandledRejection", () => {}); // the client lets one go when a connection is lost; the run fails as well

/** Goes on with whatever happens in the thread: what the protocol calls to connect. */
class FollowingAgent extends HttpAgent {
  brief = false;

  /** Where it is brief, it posts its last message only. */
  requestInit(input) {
    return super.requestInit(this.brief ? { ...input, messages: input.messages.slice(-1) } : input);
  }

  /** Joins again after a lost connection also if it waited: somebody else may have answered. */
  connectAgent(...given) {
    this.pendingInterrupts = [];
    return super.connectAgent(...given);
  }

  connect(input) {
    return transformHttpEventStream(runHttpRequest(() => this.fetch(this.url, this.requestInit(input))));
  }
}

const agents = new Map();

class Agent {
  constructor({ url, thread, messages, brief, bytes, headers }) {
    const fetch = bytes === undefined ? undefined : async () => new Response(cut(Buffer.from(bytes, "base64")), SSE);
    this.agent = new FollowingAgent({ url, threadId: thread, initialMessages: messages ?? [], fetch, headers });
    this.agent.brief = brief ?? false;
    this.events = [];
    this.waiting = [];
    this.over = true;
    this.agent.subscribe({
      onEvent: ({ event }) => {
        this.events.push(event);
        this.look();
      },
      onMessagesChanged: () => this.look(), // behind the event, so that it is in the messages
      onStateChanged: () => this.look(),
      onRunFinalized: () => this.look(),
    });
  }

  look() {
    this.waiting = this.waiting.filter((check) => !check());
  }

  /** Starts a run, or follows; what becomes of it shows in `seen`. */
  start({ say, run, connect, resume, tools, context, state, props }) {
    if (say) this.agent.addMessage({ role: "user", ...say });
    if (state !== undefined) this.agent.setState(state);
    this.over = false;
    this.failure = null;
    const ended = () => {
      this.over = true;
      this.look();
    };
    const how = { runId: run, resume, tools, context, forwardedProps: props };
    const begin = connect ? this.agent.connectAgent(how) : this.agent.runAgent(how);
    this.end = begin.then(ended, (error) => {
      this.failure = { message: error.message, status: error.status ?? null, payload: error.payload ?? null };
      ended();
    });
  }

  /** Once the messages or the state have `text` in their JSON, or there were so many runs; or all is over. */
  until({ text, finished }) {
    const met = () => {
      const ends = this.events.filter(({ type }) => type === "RUN_FINISHED" || type === "RUN_ERROR").length;
      const held = JSON.stringify([this.agent.messages, this.agent.state]);
      return this.over || (text === undefined ? ends >= finished : held.includes(JSON.stringify(text).slice(1, -1)));
    };
    return new Promise((resolve) => {
      const check = () => met() && (resolve(), true);
      if (!check()) this.waiting.push(check);
    });
  }

  seen() {
    const { messages, state, pendingInterrupts: interrupts } = this.agent;
    return { messages, state, interrupts, events: this.events, over: this.over, failure: this.failure ?? null, warnings };
  }
}

const SSE = { headers: { "content-type": "text/event-stream" } };

/** A body that comes byte by byte. */
function cut(bytes) {
  let at = 0;
  const pull = (body) => (at < bytes.length ? body.enqueue(bytes.subarray(at, ++at)) : body.close());
  return new ReadableStream({ pull });
}

const commands = {
  open: (command) => void agents.set(command.name, new Agent(command)),
  start: (command) => agents.get(command.name).start(command),
  until: (command) => agents.get(command.name).until(command),
  done: async (command) => {
    await agents.get(command.name).end;
    return agents.get(command.name).seen();
  },
  seen: (command) => agents.get(command.name).seen(),
  add: (command) => agents.get(command.name).agent.addMessage(command.message),
  abort: (command) => agents.get(command.name).agent.abortRun(),
  forget: async () => {
    for (const { agent, over } of agents.values()) if (!over) agent.abortRun();
    await Promise.all([...agents.values()].map(({ end }) => end));
    agents.clear();
    warnings.length = 0;
  },
};

async function answer(line) {
  const command = JSON.parse(line);
  try {
    return { id: command.id, result: (await commands[command.do](command)) ?? null };
  } catch (error) {
    return { id: command.id, error: error.stack };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  answer(line).then((found) => process.stdout.write(`${JSON.stringify(found)}\n`));
}
process.exit(0); // streams may still be open
