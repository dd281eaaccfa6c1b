import { describe, expect, it } from 'vitest'
import type { Frame, FrameBody, SessionPollReq, SessionPollRes } from '../wire'
import { CallError } from './errors'
import { Pump, type StreamSource, type Surroundings, WAIT_MILLISECONDS } from './pump'
import type { Connection } from './types'

type Step = SessionPollRes | Error | 'silence'

/** A Berth that answers polls from a script and then falls silent. */
class Script {
  readonly requests: SessionPollReq[] = []
  readonly abandoned: number[] = []
  #steps: Step[]
  constructor(steps: Step[]) {
    this.#steps = steps
  }
  add(...steps: Step[]): void {
    this.#steps.push(...steps)
  }
  poll(request: SessionPollReq, abandon: AbortSignal): Promise<SessionPollRes> {
    const number = this.requests.push(request) - 1
    abandon.addEventListener('abort', () => this.abandoned.push(number))
    const step = this.#steps.shift()
    if (step === undefined || step === 'silence') return new Promise(() => undefined)
    return step instanceof Error ? Promise.reject(step) : Promise.resolve(step)
  }
}

class Surround implements Surroundings {
  readonly delays: number[] = []
  /** Delays longer than this are only noted; the watchdog is released by hand. */
  #watchdogs: (() => void)[] = []
  delay(milliseconds: number): Promise<void> {
    this.delays.push(milliseconds)
    if (milliseconds <= 10_000) return Promise.resolve()
    return new Promise((resolve) => this.#watchdogs.push(resolve))
  }
  breathe(): Promise<void> {
    return Promise.resolve()
  }
  now(): number {
    return 0
  }
  bark(): void {
    this.#watchdogs.at(-1)?.()
  }
}

function line(stream: number, sequence: number): Frame {
  return { stream, sequence, body: { kind: 'log', data: { lines: [[0, 0, String(sequence)]] } } }
}

function answer(frames: Frame[], unknown: number[] = []): SessionPollRes {
  return { frames, unknown }
}

async function settle(): Promise<void> {
  for (let turn = 0; turn < 40; turn += 1) await Promise.resolve()
}

function setUp(steps: Step[]) {
  const script = new Script(steps)
  const surroundings = new Surround()
  const closed: number[] = []
  const connections: Connection[] = []
  const pump = new Pump({
    carrier: script,
    surroundings,
    closeStream: (stream) => {
      closed.push(stream)
      return Promise.resolve()
    },
    connection: (connection) => connections.push(connection),
  })
  return { script, surroundings, closed, connections, pump }
}

class Reader implements StreamSource {
  readonly bodies: FrameBody[] = []
  opened = 0
  reopened = 0
  constructor(private readonly ids: number[]) {}
  open(): Promise<number> {
    return Promise.resolve(this.ids[this.opened++] ?? 99)
  }
  frame(body: FrameBody): void {
    this.bodies.push(body)
  }
  reopening(): void {
    this.reopened += 1
  }
  get lines(): string[] {
    return this.bodies.flatMap((body) => (body.kind === 'log' ? body.data.lines.map(([, , text]) => text) : []))
  }
}

describe('pump', () => {
  it('applies frames once, in order, and acknowledges them', async () => {
    const { script, pump } = setUp([answer([line(1, 1), line(1, 2)]), answer([line(1, 2), line(1, 3)])])
    const reader = new Reader([1])
    pump.subscribe(reader)
    await settle()
    pump.start()
    await settle()
    expect(reader.lines, 'a frame sent again is dropped').toEqual(['1', '2', '3'])
    expect(script.requests.at(-1)?.acks).toEqual([{ stream: 1, sequence: 3 }])
  })

  it('keeps one poll in flight', async () => {
    const { script, pump } = setUp(['silence'])
    pump.start()
    pump.start()
    await settle()
    expect(script.requests).toHaveLength(1)
  })

  it('opens a stream again after a jump ahead', async () => {
    const { pump, closed } = setUp([answer([line(1, 1), line(1, 3), line(1, 4)]), answer([line(2, 1)])])
    const reader = new Reader([1, 2])
    pump.subscribe(reader)
    await settle()
    pump.start()
    await settle()
    expect(reader.lines, 'nothing after the jump is applied').toEqual(['1', '1'])
    expect(reader.reopened).toBe(1)
    expect(closed).toContain(1)
  })

  it('opens a stream again when Berth does not know it', async () => {
    const { pump } = setUp([answer([line(1, 1)]), answer([], [1]), answer([line(7, 1)])])
    const reader = new Reader([1, 7])
    pump.subscribe(reader)
    await settle()
    pump.start()
    await settle()
    expect(reader.opened).toBe(2)
    expect(reader.lines).toEqual(['1', '1'])
  })

  it('holds frames that arrive before the stream has a number', async () => {
    const { pump } = setUp([answer([line(5, 1), line(5, 2)])])
    const reader = new Reader([])
    let give: (stream: number) => void = () => undefined
    reader.open = () => new Promise((resolve) => (give = resolve))
    pump.subscribe(reader)
    pump.start()
    await settle()
    give(5)
    await settle()
    expect(reader.lines).toEqual(['1', '2'])
  })

  it('closes streams nobody reads', async () => {
    const { pump, closed } = setUp([answer([line(4, 1)])])
    pump.start()
    await settle()
    expect(closed).toEqual([4])
  })

  it('abandons a poll that is not answered in time and polls again', async () => {
    const { script, surroundings, pump } = setUp(['silence', answer([line(1, 1)])])
    const reader = new Reader([1])
    pump.subscribe(reader)
    await settle()
    pump.start()
    await settle()
    expect(surroundings.delays).toContain(WAIT_MILLISECONDS + 2_000)
    surroundings.bark()
    await settle()
    expect(script.abandoned).toEqual([0])
    expect(reader.lines).toEqual(['1'])
  })

  it('backs off from 250 ms to 5 s while Berth does not answer', async () => {
    const failures = Array.from({ length: 7 }, () => new Error('gone'))
    const { surroundings, connections, pump } = setUp([...failures, answer([])])
    pump.start()
    await settle()
    await settle()
    const waits = surroundings.delays.filter((delay) => delay <= 5_000)
    expect(waits).toEqual([250, 500, 1_000, 2_000, 4_000, 5_000, 5_000])
    expect(connections.at(-1)).toBe('connected')
  })

  it('stops for good when the page is not signed in', async () => {
    const { script, connections, pump } = setUp([new CallError({ code: 'unauthorized', message: 'no' })])
    pump.start()
    await settle()
    expect(connections).toEqual(['unauthorized'])
    expect(script.requests).toHaveLength(1)
  })

  it('lets go of a stream that ended', async () => {
    const { script, pump } = setUp([answer([{ stream: 1, sequence: 1, body: { kind: 'end' } }])])
    const reader = new Reader([1])
    pump.subscribe(reader)
    await settle()
    pump.start()
    await settle()
    expect(reader.bodies).toEqual([{ kind: 'end' }])
    expect(script.requests.at(-1)?.acks).toEqual([])
  })

  it('closes a stream whose reader left while it was being opened', async () => {
    const { pump, closed } = setUp([])
    const subscription = pump.subscribe(new Reader([3]))
    subscription.close()
    await settle()
    expect(closed).toEqual([3])
  })
})
