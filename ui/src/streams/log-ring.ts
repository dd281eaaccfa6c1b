import type { LogGap, LogLine } from '../wire'

export const RING_LINES = 50_000

/** Berth's own bits are the low ones; this one says that the row stands for lines left out. */
const GAP = 0x80

export type LogRowKind = 'line' | 'note' | 'gap'

const STDERR = 1
const CUT = 2
const NOTE = 4

/**
 * The last lines of a log, outside reactive state. Every row has a number that counts up for the life of the ring;
 * rows between `first` and `end` are there.
 */
export class LogRing {
  readonly capacity: number
  #first = 0
  #end = 0
  readonly #times: Float64Array
  readonly #flags: Uint8Array
  readonly #texts: string[]

  constructor(capacity = RING_LINES) {
    this.capacity = capacity
    this.#times = new Float64Array(capacity)
    this.#flags = new Uint8Array(capacity)
    this.#texts = new Array<string>(capacity).fill('')
  }

  get first(): number {
    return this.#first
  }

  get end(): number {
    return this.#end
  }

  get size(): number {
    return this.#end - this.#first
  }

  push(lines: readonly LogLine[]): void {
    for (const [time, flags, text] of lines) this.#add(time, flags & 0x7f, text)
  }

  pushGap(gap: LogGap): void {
    this.#add(gap.from, GAP, String(gap.lines))
  }

  pushNote(note: string): void {
    this.#add(0, NOTE, note)
  }

  /** Forgets what is there; the numbers go on. */
  clear(): void {
    this.#first = this.#end
    this.#texts.fill('')
  }

  time(row: number): number {
    return this.#times[row % this.capacity] ?? 0
  }

  /** The line as it came; for a gap the number of lines left out. */
  text(row: number): string {
    return this.#texts[row % this.capacity] ?? ''
  }

  kind(row: number): LogRowKind {
    const flags = this.#flags[row % this.capacity] ?? 0
    return flags & GAP ? 'gap' : flags & NOTE ? 'note' : 'line'
  }

  isStandardError(row: number): boolean {
    return ((this.#flags[row % this.capacity] ?? 0) & STDERR) !== 0
  }

  isCut(row: number): boolean {
    return ((this.#flags[row % this.capacity] ?? 0) & CUT) !== 0
  }

  #add(time: number, flags: number, text: string): void {
    const slot = this.#end % this.capacity
    this.#times[slot] = time
    this.#flags[slot] = flags
    this.#texts[slot] = text
    this.#end += 1
    if (this.#end - this.#first > this.capacity) this.#first += 1
  }
}
