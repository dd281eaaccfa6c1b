import { stripAnsi } from './ansi'
import type { LogRing } from './log-ring'

const RANGES_PER_LINE = 200
/** A pattern is the user's own, but not every line is worth its backtracking. */
const SEARCHED_CHARACTERS = 16_384
const SCAN_STEP = 256

export interface SearchPattern {
  test(text: string): boolean
  /** Beginnings and ends of the hits in a line. */
  ranges(text: string): [number, number][]
}

export type SearchResult = { pattern: SearchPattern | null } | { broken: string }

/** Small letters find both cases, a capital asks for itself. */
export function compileSearch(query: string, regex: boolean): SearchResult {
  if (query === '') return { pattern: null }
  const flags = query === query.toLowerCase() ? 'gi' : 'g'
  let expression: RegExp
  try {
    expression = new RegExp(regex ? query : query.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'), flags)
  } catch (error) {
    const reason = error instanceof Error ? error.message : ''
    // Engines repeat the pattern before the reason.
    return { broken: reason.replace(/^Invalid regular expression:\s*/, '').replace(/^\/.*\/\w*:\s*/s, '') }
  }
  return {
    pattern: {
      test(text) {
        expression.lastIndex = 0
        return expression.test(text.length > SEARCHED_CHARACTERS ? text.slice(0, SEARCHED_CHARACTERS) : text)
      },
      ranges(text) {
        const searched = text.length > SEARCHED_CHARACTERS ? text.slice(0, SEARCHED_CHARACTERS) : text
        const ranges: [number, number][] = []
        expression.lastIndex = 0
        while (ranges.length < RANGES_PER_LINE) {
          const found = expression.exec(searched)
          if (!found) break
          if (found[0] === '') {
            expression.lastIndex += 1
            if (expression.lastIndex > searched.length) break
            continue
          }
          ranges.push([found.index, found.index + found[0].length])
        }
        return ranges
      },
    },
  }
}

/** Rows of a ring that match, found a little at a time. */
export class LogHits {
  readonly #pattern: SearchPattern
  #rows: number[] = []
  /** Rows before this index have left the ring. */
  #head = 0
  #scanned: number

  constructor(pattern: SearchPattern, ring: LogRing) {
    this.#pattern = pattern
    this.#scanned = ring.first
  }

  /** Looks on for at most that long; true when it has seen everything there is. */
  scan(ring: LogRing, milliseconds: number, now: () => number = () => performance.now()): boolean {
    const until = now() + milliseconds
    this.#forget(ring.first)
    if (this.#scanned < ring.first) this.#scanned = ring.first
    while (this.#scanned < ring.end) {
      const stop = Math.min(ring.end, this.#scanned + SCAN_STEP)
      for (let row = this.#scanned; row < stop; row += 1) {
        if (ring.kind(row) === 'line' && this.#pattern.test(stripAnsi(ring.text(row)))) this.#rows.push(row)
      }
      this.#scanned = stop
      if (now() >= until) break
    }
    return this.#scanned >= ring.end
  }

  get count(): number {
    return this.#rows.length - this.#head
  }

  at(index: number): number | undefined {
    return this.#rows[this.#head + index]
  }

  /** How many hits lie before that row. */
  before(row: number): number {
    let low = this.#head
    let high = this.#rows.length
    while (low < high) {
      const middle = (low + high) >> 1
      if ((this.#rows[middle] ?? 0) < row) low = middle + 1
      else high = middle
    }
    return low - this.#head
  }

  #forget(first: number): void {
    while (this.#head < this.#rows.length && (this.#rows[this.#head] ?? 0) < first) this.#head += 1
    if (this.#head > 4_096 && this.#head > this.#rows.length / 2) {
      this.#rows = this.#rows.slice(this.#head)
      this.#head = 0
    }
  }
}
