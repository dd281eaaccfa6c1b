import { tick } from 'svelte'
import { stripAnsi } from '../../streams/ansi'
import { levelOf } from '../../streams/log-level'
import { compileSearch, LogHits, type SearchPattern } from '../../streams/log-search'
import type { Timestamps } from '../../state/settings.svelte'
import { LINE_HEIGHT, LogLayout } from './log-layout'
import { gapText, type LogStream } from './log-stream.svelte'
import { logTime } from './log-time'

const OVERSCAN_PIXELS = 8 * LINE_HEIGHT
/** What one frame may spend on looking for hits. */
const SCAN_MILLISECONDS = 5
const SIDES = 20
const LEVEL_WIDTH = 48
const TIME_WIDTH = 98
const WIDEST_CHARACTERS = 8_300

export interface DrawnRows {
  rows: number[]
  offset: number
  total: number
  count: number
}

/** How one log is looked at: scroll position, following, search. The text itself stays in the ring. */
export class LogView {
  query = $state('')
  regex = $state(false)
  onlyHits = $state(false)
  wrap = $state(false)
  timestamps: Timestamps = $state('local')
  following = $state(true)
  /** Size of the scrolling box and width of one character. */
  height = $state(0)
  width = $state(0)
  characterWidth = $state(7.2)
  top = $state(0)
  /** The hit the search stands on. */
  currentRow: number | null = $state(null)
  /** Levels have been seen, so they get a column. */
  levels = $state(false)
  hitCount = $state(0)
  scanning = $state(false)
  /** The longest line drawn so far, to scroll sideways by. */
  widest = $state(0)

  readonly stream: LogStream
  #hits: LogHits | null = $state.raw(null)
  #hitVersion = $state(0)
  #layoutVersion = $state(0)
  readonly #layout: LogLayout
  #scroller: HTMLElement | null = null
  #anchor: { row: number; delta: number } | null = null
  #lastTop = 0
  #pausedEnd = 0
  #visited = false

  readonly search = $derived(compileSearch(this.query, this.regex))
  readonly pattern: SearchPattern | null = $derived('pattern' in this.search ? this.search.pattern : null)
  readonly broken: string | null = $derived('broken' in this.search ? this.search.broken : null)

  readonly #columns = $derived.by(() => {
    if (!this.wrap) return 0
    const taken = SIDES + (this.timestamps === 'off' ? 0 : TIME_WIDTH) + (this.levels ? LEVEL_WIDTH : 0)
    return Math.max(8, Math.floor((this.width - taken) / this.characterWidth))
  })

  readonly drawn: DrawnRows = $derived.by(() => {
    void this.stream.version
    void this.#hitVersion
    void this.#layoutVersion
    const layout = this.#layout
    layout.update(this.#columns, this.onlyHits && this.pattern ? this.#hits : null)
    const { count, total } = layout
    if (count === 0 || this.height === 0) return { rows: [], offset: 0, total, count }
    const top = this.following ? Math.max(0, total - this.height) : Math.min(this.top, Math.max(0, total - this.height))
    const first = layout.indexAt(Math.max(0, top - OVERSCAN_PIXELS))
    const last = layout.indexAt(top + this.height + OVERSCAN_PIXELS)
    const rows: number[] = []
    for (let index = first; index <= last; index += 1) rows.push(layout.rowAt(index))
    return { rows, offset: layout.offsetOf(first), total, count }
  })

  /** Lines that came since following was paused. */
  readonly newLines = $derived.by(() => {
    void this.stream.version
    return this.following ? 0 : Math.max(0, this.stream.ring.end - this.#pausedEnd)
  })

  /** Where the search stands among the hits, from 1; 0 before the first step. */
  readonly hitPosition = $derived.by(() => {
    void this.#hitVersion
    return this.currentRow === null || !this.#hits ? 0 : Math.min(this.hitCount, this.#hits.before(this.currentRow) + 1)
  })

  constructor(stream: LogStream) {
    this.stream = stream
    this.#layout = new LogLayout(stream.ring)
  }

  attach(scroller: HTMLElement): void {
    this.#scroller = scroller
  }

  /** Begins the search anew. Call from an effect when the pattern changes. */
  beginSearch(pattern: SearchPattern | null): void {
    this.#hits = pattern ? new LogHits(pattern, this.stream.ring) : null
    this.currentRow = null
    this.#visited = false
    this.hitCount = 0
    this.#hitVersion += 1
  }

  /** Spends a little time on the search; true while there is more to look at. */
  scan(): boolean {
    const hits = this.#hits
    if (!hits) {
      this.scanning = false
      return false
    }
    const done = hits.scan(this.stream.ring, SCAN_MILLISECONDS)
    this.hitCount = hits.count
    this.scanning = !done
    if (done && this.currentRow === null && hits.count > 0) this.currentRow = hits.at(hits.count - 1) ?? null
    this.#hitVersion += 1
    return !done
  }

  step(direction: 1 | -1): void {
    const hits = this.#hits
    if (!hits || hits.count === 0) return
    if (this.currentRow !== null && !this.#visited) {
      this.#visited = true
      this.reveal(this.currentRow)
      return
    }
    this.#visited = true
    const before = hits.before(this.currentRow ?? this.stream.ring.end)
    const next = (before + direction + hits.count) % hits.count
    const row = hits.at(next)
    if (row === undefined) return
    this.currentRow = row
    this.reveal(row)
  }

  reveal(row: number): void {
    this.#pause()
    const index = this.#layout.indexOf(row)
    const wanted = Math.max(0, this.#layout.offsetOf(index) - this.height / 3)
    this.#anchor = { row, delta: -this.height / 3 }
    this.#scrollTo(wanted)
  }

  scrolled(): void {
    const scroller = this.#scroller
    if (!scroller) return
    const top = scroller.scrollTop
    const atEnd = top + this.height >= this.#layout.total - 4
    if (atEnd) this.following = true
    else if (top < this.#lastTop - 1) this.#pause()
    this.#lastTop = top
    this.top = top
    this.#remember(top)
  }

  toEnd(): void {
    this.following = true
    this.settle()
  }

  clear(): void {
    this.stream.clear()
    this.following = true
    this.widest = 0
    this.currentRow = null
  }

  /** After the page was drawn: keeps the end in view, or keeps still what is being read. */
  settle(): void {
    const scroller = this.#scroller
    if (!scroller) return
    if (this.following) {
      scroller.scrollTop = scroller.scrollHeight
      this.#lastTop = scroller.scrollTop
      return
    }
    if (!this.#anchor || this.#layout.count === 0) return
    const { row, delta } = this.#anchor
    const gone = row < this.stream.ring.first
    const wanted = Math.max(0, this.#layout.offsetOf(this.#layout.indexOf(row)) + (gone ? 0 : delta))
    if (Math.abs(wanted - scroller.scrollTop) > 1) this.#scrollTo(wanted)
  }

  /** Takes the heights rows turned out to have when lines are wrapped. */
  measure(elements: HTMLCollection, rows: readonly number[]): void {
    let changed = false
    rows.forEach((row, index) => {
      const element = elements[index]
      if (element instanceof HTMLElement) changed = this.#layout.measured(row, element.offsetHeight) || changed
    })
    if (changed) this.#layoutVersion += 1
  }

  /** Notes what the drawn lines say about columns and width. */
  observe(rows: readonly number[]): void {
    const { ring } = this.stream
    let widest = this.widest
    let levels = this.levels
    for (const row of rows) {
      if (ring.kind(row) !== 'line') continue
      const raw = ring.text(row)
      if (raw.length > widest || !levels) {
        const plain = stripAnsi(raw)
        widest = Math.max(widest, Math.min(WIDEST_CHARACTERS, plain.length))
        levels ||= levelOf(plain) !== null
      }
    }
    if (widest > this.widest) this.widest = widest
    if (levels !== this.levels) this.levels = levels
  }

  /** All that is shown, line by line, as plain text. */
  plainLines(): string[] {
    const { ring } = this.stream
    const lines: string[] = []
    for (let index = 0; index < this.#layout.count; index += 1) {
      const row = this.#layout.rowAt(index)
      const kind = ring.kind(row)
      const body = kind === 'gap' ? `[${gapText(ring.text(row))}]` : stripAnsi(ring.text(row))
      const time = kind === 'line' ? logTime(ring.time(row), this.timestamps) : ''
      lines.push(time === '' ? body : `${time} ${body}`)
    }
    return lines
  }

  /** Keeps the row at the top where it is when rows above change height or go. */
  async keepPlace(change: () => void): Promise<void> {
    const scroller = this.#scroller
    if (scroller && !this.following) this.#remember(scroller.scrollTop)
    change()
    await tick()
    this.settle()
  }

  #pause(): void {
    if (!this.following) return
    this.following = false
    this.#pausedEnd = this.stream.ring.end
  }

  #remember(top: number): void {
    if (this.#layout.count === 0) return
    const index = this.#layout.indexAt(top)
    this.#anchor = { row: this.#layout.rowAt(index), delta: top - this.#layout.offsetOf(index) }
  }

  #scrollTo(top: number): void {
    this.top = top
    this.#lastTop = top
    if (this.#scroller) this.#scroller.scrollTop = top
  }
}
