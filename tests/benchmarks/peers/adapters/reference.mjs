// The reference design: Hono's streamSSE; each connection keeps the state it has sent and compares for every change.
import { createAdaptorServer } from '@hono/node-server'
import jsonpatch from 'fast-json-patch'
import { Hono } from 'hono'
import { streamSSE } from 'hono/streaming'
import { BACKLOG, PORT, Source, Ticker, snapshot, update } from '../workload.mjs'

const source = new Source(), ticker = new Ticker(source), app = new Hono()

app.get('/ctl', c => c.json(ticker.control(new URL(c.req.url).searchParams)))

app.get('/stream/state', c => streamSSE(c, async stream => {
  let id = 0, sent = source.state
  const first = stream.writeSSE({ id: String(id++), event: 'state.initial', data: JSON.stringify(snapshot(sent)) })
  const changed = (_, state, seq, payload) => {
    const patches = jsonpatch.compare(sent, state)
    sent = state
    stream.writeSSE({ id: String(id++), event: 'state.update', data: JSON.stringify(update(seq, patches, payload)) })
  }
  source.listeners.add(changed)
  stream.onAbort(() => source.listeners.delete(changed))
  await first
  while (!stream.aborted) {
    await stream.sleep(15000)
    await stream.writeSSE({ event: 'heartbeat', data: '' })
  }
}))

createAdaptorServer({ fetch: app.fetch }).listen({ port: PORT, host: '127.0.0.1', backlog: BACKLOG })
