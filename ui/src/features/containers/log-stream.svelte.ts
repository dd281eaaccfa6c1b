import { text } from '../../lang'
import { LogRing } from '../../streams/log-ring'
import { call, subscribe, type Subscription } from '../../transport'
import type { ContainerKey, FrameBody, LogLine, WireError } from '../../wire'

export const TAIL_LINES = 1_000

/** A log that says nothing for so long after it was opened has nothing to say. */
const SILENT_MILLISECONDS = 300

export type LogPhase = 'opening' | 'live' | 'ended' | 'failed'

/** One container's log as the page reads it: the ring, how it goes, and a version that counts up once a frame. */
export class LogStream {
  readonly ring = new LogRing()
  version = $state(0)
  phase: LogPhase = $state('opening')
  error: WireError | null = $state.raw(null)
  cleared = $state(false)
  #subscription: Subscription
  #scheduled = false
  #silence: ReturnType<typeof setTimeout> | undefined
  /** After opening again, what was shown already is left out. */
  #resumeAfter = 0
  #resumeTexts: Set<string> | null = null

  constructor(container: ContainerKey) {
    this.#subscription = subscribe({
      open: async () => {
        const stream = await call('logs_open', { container, tail: TAIL_LINES, follow: true })
        this.#awaitFirst()
        return stream
      },
      frame: (body) => this.#receive(body),
      refused: (error) => {
        this.error = error
        this.phase = 'failed'
        this.#announce()
      },
      reopening: () => this.#resume(),
    })
  }

  close(): void {
    clearTimeout(this.#silence)
    this.#subscription.close()
  }

  reopen(): void {
    this.#subscription.reopen()
  }

  clear(): void {
    this.#rememberLast()
    this.ring.clear()
    this.cleared = true
    this.version += 1
  }

  #awaitFirst(): void {
    clearTimeout(this.#silence)
    this.#silence = setTimeout(() => {
      if (this.phase === 'opening') this.phase = 'live'
    }, SILENT_MILLISECONDS)
  }

  #resume(): void {
    this.#rememberLast()
    this.phase = 'opening'
    this.error = null
  }

  /** Notes the last moment shown and the lines of it, to know them again. */
  #rememberLast(): void {
    const { ring } = this
    let last = 0
    for (let row = ring.end - 1; row >= ring.first && last === 0; row -= 1) {
      if (ring.kind(row) === 'line') last = ring.time(row)
    }
    if (last === 0) return
    const texts = new Set<string>()
    for (let row = ring.end - 1; row >= ring.first; row -= 1) {
      if (ring.kind(row) !== 'line') continue
      if (ring.time(row) < last) break
      texts.add(ring.text(row))
    }
    this.#resumeAfter = last
    this.#resumeTexts = texts
  }

  #receive(body: FrameBody): void {
    switch (body.kind) {
      case 'log':
        this.phase = 'live'
        this.ring.push(this.#unseen(body.data.lines))
        break
      case 'gap':
        this.phase = 'live'
        this.ring.pushGap(body.data)
        break
      case 'end':
        this.phase = 'ended'
        break
      case 'failed':
        this.phase = 'failed'
        this.error = body.data
        break
      default:
        return
    }
    this.#announce()
  }

  #unseen(lines: LogLine[]): LogLine[] {
    if (this.#resumeAfter === 0) return lines
    const seen = this.#resumeTexts
    const after = this.#resumeAfter
    const fresh = lines.filter(([time, , line]) => time === 0 || time > after || (time === after && !seen?.has(line)))
    if (fresh.some(([time]) => time > after)) {
      this.#resumeAfter = 0
      this.#resumeTexts = null
    }
    return fresh
  }

  #announce(): void {
    if (this.#scheduled) return
    this.#scheduled = true
    let done = false
    const commit = (): void => {
      if (done) return
      done = true
      this.#scheduled = false
      this.version += 1
    }
    requestAnimationFrame(commit)
    setTimeout(commit, 250)
  }
}

/** A log as text, the way it is shown. */
export function gapText(lines: string): string {
  return text.logs.gap(Number(lines))
}
