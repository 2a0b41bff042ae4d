// better-sse: a channel that broadcasts. The states are compared once a change; the library encodes once a session.
import http from 'node:http'
import { createChannel, createSession } from 'better-sse'
import jsonpatch from 'fast-json-patch'
import { BACKLOG, PORT, Source, Ticker, snapshot, update } from '../workload.mjs'

const source = new Source(), ticker = new Ticker(source), channel = createChannel()

source.listeners.add((before, state, seq, payload) => {
  channel.broadcast(update(seq, jsonpatch.compare(before, state), payload), 'state.update', { eventId: String(seq) })
})

http.createServer(async (request, response) => {
  const url = new URL(request.url, 'http://x')
  if (url.pathname === '/ctl') return void response.end(JSON.stringify(ticker.control(url.searchParams)))
  const session = await createSession(request, response)
  session.push(snapshot(source.state), 'state.initial', String(source.seq))
  channel.register(session)
}).listen({ port: PORT, host: '127.0.0.1', backlog: BACKLOG })
