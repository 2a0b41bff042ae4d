// The work, for the adapters in Node. What it is, and the law, stand in workload.py.
export const PORT = Number(process.env.PORT ?? 8000)
export const BACKLOG = 4096
export const SLICE = 'app'
const ITEMS = Number(process.env.ITEMS ?? 20)
const PAUSE = 10
const TURN = Number(process.env.TURN ?? 256)
const now = () => Number(process.hrtime.bigint())

const item = i => ({ id: `i${i}`, done: false, note: `item ${i} lorem ipsum dolor sit amet consectetur adipi`, n: 0 })

/** The state, and who is told of each change: the state before, the state after, the number, the payload. */
export class Source {
  seq = 0
  state = { items: Array.from({ length: ITEMS }, (_, i) => item(i)) }
  listeners = new Set()

  change(due) {
    const seq = ++this.seq, before = this.state, last = before.items.at(-1)
    this.state = { items: [...before.items.slice(0, -1), { ...last, n: seq }] }
    const payload = { seq, t: now(), due }
    for (const told of this.listeners) told(before, this.state, seq, payload)
  }
}

export const update = (seq, patches, payload) => ({
  type: 'state.update', slice: SLICE, patches, cause: { type: 'tick', id: `a${seq}`, payload }, timestamp: Date.now(),
})

export const snapshot = state => ({ type: 'state.initial', slices: { [SLICE]: state }, timestamp: Date.now() })

export class Ticker {
  rate = 0
  left = -1
  due = 0

  constructor(source) {
    this.source = source
    this.run()
  }

  control(query) {
    this.rate = Number(query.get('rate') ?? 0)
    this.left = Number(query.get('count') ?? 0) || -1
    this.due = now() + (this.rate ? 1e9 / this.rate : 0)
    return { seq: this.source.seq }
  }

  run = () => {
    const wait = this.rate && this.left ? (this.due - now()) / 1e6 : PAUSE
    if (wait > 0) return void setTimeout(this.run, Math.min(wait, PAUSE))
    for (let made = 0; this.left && this.due <= now() && made < TURN; made++) {
      if (this.left > 0) this.left--
      const due = Math.floor(this.due)
      this.due += 1e9 / this.rate
      this.source.change(due)
    }
    setImmediate(this.run)
  }
}
