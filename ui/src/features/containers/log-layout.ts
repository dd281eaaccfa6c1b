import { stripAnsi } from '../../streams/ansi'
import type { LogRing } from '../../streams/log-ring'
import type { LogHits } from '../../streams/log-search'

export const LINE_HEIGHT = 19
/** What is drawn of one line; copies and files hold all of it. */
export const DRAWN_CHARACTERS = 8_192

/** Which rows of the ring are shown, and how high each is. */
export class LogLayout {
  readonly #ring: LogRing
  readonly #heights: Uint32Array
  readonly #filled: Float64Array
  #columns = 0
  #offsets = new Float64Array(1)
  #first = 0
  #count = 0
  #only: LogHits | null = null

  constructor(ring: LogRing) {
    this.#ring = ring
    this.#heights = new Uint32Array(ring.capacity)
    this.#filled = new Float64Array(ring.capacity).fill(-1)
  }

  /** Takes in what changed. `columns` is 0 when lines are not wrapped; `only` narrows to hits. */
  update(columns: number, only: LogHits | null): void {
    if (columns !== this.#columns) {
      this.#columns = columns
      this.#filled.fill(-1)
    }
    this.#only = only
    this.#first = this.#ring.first
    this.#count = only ? only.count : this.#ring.size
    if (columns === 0) return
    if (this.#offsets.length < this.#count + 1) this.#offsets = new Float64Array(Math.max(1_024, this.#count * 2))
    let at = 0
    for (let index = 0; index < this.#count; index += 1) {
      this.#offsets[index] = at
      at += this.#height(this.rowAt(index))
    }
    this.#offsets[this.#count] = at
  }

  get count(): number {
    return this.#count
  }

  get total(): number {
    return this.#columns === 0 ? this.#count * LINE_HEIGHT : (this.#offsets[this.#count] ?? 0)
  }

  rowAt(index: number): number {
    return this.#only ? (this.#only.at(index) ?? this.#first) : this.#first + index
  }

  /** The index of the row, or of the first one after it. */
  indexOf(row: number): number {
    const index = this.#only ? this.#only.before(row) : row - this.#first
    return Math.max(0, Math.min(this.#count - 1, index))
  }

  offsetOf(index: number): number {
    return this.#columns === 0 ? index * LINE_HEIGHT : (this.#offsets[index] ?? 0)
  }

  indexAt(position: number): number {
    if (this.#columns === 0) {
      return Math.max(0, Math.min(this.#count - 1, Math.floor(position / LINE_HEIGHT)))
    }
    let low = 0
    let high = Math.max(0, this.#count - 1)
    while (low < high) {
      const middle = (low + high + 1) >> 1
      if ((this.#offsets[middle] ?? 0) <= position) low = middle
      else high = middle - 1
    }
    return low
  }

  /** The height a drawn row turned out to have; true when that is news. */
  measured(row: number, height: number): boolean {
    if (this.#columns === 0) return false
    const slot = row % this.#ring.capacity
    if (this.#filled[slot] === row && this.#heights[slot] === height) return false
    this.#filled[slot] = row
    this.#heights[slot] = height
    return true
  }

  #height(row: number): number {
    const slot = row % this.#ring.capacity
    if (this.#filled[slot] !== row) {
      this.#filled[slot] = row
      const raw = this.#ring.text(row)
      const length = Math.min(DRAWN_CHARACTERS, raw.length <= this.#columns ? raw.length : stripAnsi(raw).length)
      this.#heights[slot] = Math.max(1, Math.ceil(length / this.#columns)) * LINE_HEIGHT
    }
    return this.#heights[slot] ?? LINE_HEIGHT
  }
}
