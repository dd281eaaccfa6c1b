import type { Ack, Frame, FrameBody, SessionPollReq, SessionPollRes, StreamId, WireError } from '../wire'
import { toWireError } from './errors'
import type { Carrier, Connection } from './types'

export const MAX_BYTES = 262_144
export const WAIT_MILLISECONDS = 20_000
const GRACE_MILLISECONDS = 2_000
const BACKOFF_FIRST = 250
const BACKOFF_LAST = 5_000
const HELD_FRAMES = 256
const BUSY_MILLISECONDS = 8

export interface StreamSource {
  /** Opens the stream; called again when it broke. */
  open(): Promise<StreamId>
  /** Applies one frame. The stream counts as closed after `end` and `failed`. */
  frame(body: FrameBody): void
  /** Opening failed; nothing more comes unless `reopen` is called. */
  refused?(error: WireError): void
  /** The stream broke and is being opened again. */
  reopening?(): void
}

/** A stream somebody reads. */
export interface Subscription {
  /** Forgets the stream and tells Berth. */
  close(): void
  /** Closes what there is and opens it anew. */
  reopen(): void
}

export interface Surroundings {
  /** Never resolves once cancelled. */
  delay(milliseconds: number, cancel?: AbortSignal): Promise<void>
  /** Resolves when the page has had the chance to paint. */
  breathe(): Promise<void>
  now(): number
}

export interface PumpOptions {
  carrier: Pick<Carrier, 'poll'>
  closeStream(stream: StreamId): Promise<unknown>
  connection(state: Connection): void
  surroundings?: Surroundings
}

export const browserSurroundings: Surroundings = {
  delay: (milliseconds, cancel) =>
    new Promise((resolve) => {
      const timer = setTimeout(resolve, milliseconds)
      cancel?.addEventListener('abort', () => clearTimeout(timer), { once: true })
    }),
  breathe: () =>
    new Promise((resolve) => {
      // A hidden page gets no animation frames; the timer lets it go on.
      const timer = setTimeout(resolve, 50)
      requestAnimationFrame(() => {
        clearTimeout(timer)
        setTimeout(resolve, 0)
      })
    }),
  now: () => performance.now(),
}

class Reader implements Subscription {
  stream: StreamId | null = null
  applied = 0
  closed = false
  opening = 0
  readonly source: StreamSource
  readonly #pump: Pump

  constructor(pump: Pump, source: StreamSource) {
    this.#pump = pump
    this.source = source
  }

  close(): void {
    if (this.closed) return
    this.closed = true
    this.#pump.release(this)
  }

  reopen(): void {
    if (!this.closed) this.#pump.reopen(this)
  }
}

/** Keeps one poll in flight and hands the frames of all streams to their readers, each once and in order. */
export class Pump {
  readonly #options: PumpOptions
  readonly #surroundings: Surroundings
  readonly #readers = new Map<StreamId, Reader>()
  #held: Frame[] = []
  #opening = 0
  #stopped = false
  #running = false

  constructor(options: PumpOptions) {
    this.#options = options
    this.#surroundings = options.surroundings ?? browserSurroundings
  }

  subscribe(source: StreamSource): Subscription {
    const reader = new Reader(this, source)
    void this.#open(reader)
    return reader
  }

  stop(): void {
    this.#stopped = true
  }

  start(): void {
    if (this.#running) return
    this.#running = true
    void this.#run()
  }

  release(reader: Reader): void {
    const stream = reader.stream
    reader.stream = null
    if (stream === null) return
    this.#readers.delete(stream)
    this.#options.closeStream(stream).catch(() => undefined)
  }

  reopen(reader: Reader): void {
    this.release(reader)
    reader.source.reopening?.()
    void this.#open(reader)
  }

  async #open(reader: Reader): Promise<void> {
    const turn = ++reader.opening
    this.#opening += 1
    try {
      const stream = await reader.source.open()
      if (reader.closed || turn !== reader.opening) {
        this.#options.closeStream(stream).catch(() => undefined)
        return
      }
      reader.stream = stream
      reader.applied = 0
      this.#readers.set(stream, reader)
      const mine = this.#held.filter((frame) => frame.stream === stream)
      this.#held = this.#held.filter((frame) => frame.stream !== stream)
      for (const frame of mine) this.#apply(frame)
    } catch (error) {
      if (!reader.closed && turn === reader.opening) reader.source.refused?.(toWireError(error))
    } finally {
      this.#opening -= 1
      if (this.#opening === 0) this.#held = []
    }
  }

  async #run(): Promise<void> {
    let backoff = BACKOFF_FIRST
    let busy = 0
    while (!this.#stopped) {
      const request: SessionPollReq = {
        acks: this.#acks(),
        maxBytes: MAX_BYTES,
        waitMilliseconds: WAIT_MILLISECONDS,
      }
      let answer: SessionPollRes | null
      try {
        answer = await this.#poll(request)
      } catch (error) {
        const unauthorized = toWireError(error).code === 'unauthorized'
        this.#options.connection(unauthorized ? 'unauthorized' : 'reconnecting')
        if (unauthorized) return
        await this.#surroundings.delay(backoff)
        backoff = Math.min(backoff * 2, BACKOFF_LAST)
        continue
      }
      if (answer === null) {
        this.#options.connection('reconnecting')
        continue
      }
      this.#options.connection('connected')
      backoff = BACKOFF_FIRST

      const since = this.#surroundings.now()
      const useful = this.#take(answer)
      busy += this.#surroundings.now() - since
      if (busy >= BUSY_MILLISECONDS) {
        busy = 0
        await this.#surroundings.breathe()
      }
      // Frames nobody wants come back at once until Berth has closed their stream.
      if (!useful && answer.frames.length > 0) await this.#surroundings.delay(100)
    }
  }

  /** Null when no answer came in time. */
  async #poll(request: SessionPollReq): Promise<SessionPollRes | null> {
    const abandon = new AbortController()
    const answered = new AbortController()
    const patience = request.waitMilliseconds + GRACE_MILLISECONDS
    const watchdog = this.#surroundings.delay(patience, answered.signal).then(() => null)
    try {
      const answer = await Promise.race([this.#options.carrier.poll(request, abandon.signal), watchdog])
      if (answer === null) abandon.abort()
      return answer
    } finally {
      answered.abort()
    }
  }

  #acks(): Ack[] {
    return [...this.#readers].map(([stream, reader]) => ({ stream, sequence: reader.applied }))
  }

  #take(answer: SessionPollRes): boolean {
    let useful = false
    for (const frame of answer.frames) useful = this.#apply(frame) || useful
    for (const stream of answer.unknown) {
      const reader = this.#readers.get(stream)
      if (!reader) continue
      useful = true
      this.#readers.delete(stream)
      reader.stream = null
      this.reopen(reader)
    }
    return useful
  }

  #apply(frame: Frame): boolean {
    const reader = this.#readers.get(frame.stream)
    if (!reader) {
      // Its `open` may not have been answered yet.
      if (this.#opening > 0 && this.#held.length < HELD_FRAMES) this.#held.push(frame)
      else if (this.#opening === 0) this.#options.closeStream(frame.stream).catch(() => undefined)
      return false
    }
    if (frame.sequence <= reader.applied) return false
    if (frame.sequence !== reader.applied + 1) {
      this.reopen(reader)
      return true
    }
    reader.applied = frame.sequence
    if (frame.body.kind === 'end' || frame.body.kind === 'failed') this.release(reader)
    reader.source.frame(frame.body)
    return true
  }
}
