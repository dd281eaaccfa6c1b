import type { Text } from '../../lang'
import { ago, shortDuration } from '../../lib/format/duration'
import type { ContainerRow } from '../../wire'

/** What the glyph says by shape and colour. */
export type Tone = 'running' | 'idle' | 'unhealthy' | 'failed' | 'paused' | 'working'

export interface StatusText {
  main: string
  /** Empty where there is nothing to add. */
  note: string
  /** The note is bad news. */
  bad: boolean
}

const SIGNALS: Readonly<Record<number, keyof Text['exit']>> = {
  130: 'interrupted',
  134: 'aborted',
  137: 'killed',
  139: 'crashed',
  143: 'terminated',
  125: 'engineFailed',
  126: 'notExecutable',
  127: 'notFound',
}

/** Why a process ended with this code, in a few words; empty for codes that are the program's own. */
export function explainExit(code: number, outOfMemory: boolean, text: Text): string {
  if (outOfMemory) return text.exit.outOfMemory
  const known = SIGNALS[code]
  if (known !== undefined && known !== 'signal') return text.exit[known]
  return code > 128 && code <= 128 + 64 ? text.exit.signal(code - 128) : ''
}

/** The user or an orchestrator asked for these ends; they are no failures. */
const ASKED_FOR: ReadonlySet<number> = new Set([0, 130, 137, 143])

export function endedBadly(row: ContainerRow): boolean {
  if (row.outOfMemory || row.error !== null) return true
  return row.exitCode !== null && !ASKED_FOR.has(row.exitCode)
}

export function toneOf(row: ContainerRow): Tone {
  switch (row.state) {
    case 'running':
      return row.health === 'unhealthy' ? 'unhealthy' : 'running'
    case 'paused':
      return 'paused'
    case 'restarting':
    case 'removing':
      return 'working'
    case 'dead':
      return 'failed'
    case 'created':
      return row.error === null ? 'idle' : 'failed'
    case 'exited':
      return endedBadly(row) ? 'failed' : 'idle'
    default:
      return 'idle'
  }
}

function join(parts: string[], separator: string): string {
  return parts.filter((part) => part !== '').join(separator)
}

/** The status column: "Up 3 h · healthy", "Exited 137 · out of memory, 3 h ago". */
export function statusOf(row: ContainerRow, now: number, text: Text): StatusText {
  const up = row.started === null ? '' : shortDuration(now - row.started, text)
  switch (row.state) {
    case 'running': {
      if (row.health === 'unhealthy') {
        const note = join([text.status.unhealthyNote, up === '' ? '' : text.status.upSmall(up)], ', ')
        return { main: text.status.unhealthy, note, bad: true }
      }
      const health =
        row.health === 'healthy' ? text.status.healthy : row.health === 'starting' ? text.status.healthStarting : ''
      return { main: up === '' ? text.status.running : text.status.up(up), note: health, bad: false }
    }
    case 'paused':
      return { main: text.status.paused, note: up === '' ? '' : text.status.upSmall(up), bad: false }
    case 'restarting': {
      const exit = row.exitCode === null ? '' : explainExit(row.exitCode, row.outOfMemory, text)
      const note = join([text.status.restartingNote(row.restartCount, row.exitCode), exit], ' · ')
      return { main: text.status.restarting, note, bad: true }
    }
    case 'created':
      return row.error === null
        ? { main: text.status.created, note: text.status.neverStarted, bad: false }
        : { main: text.status.couldNotStart, note: row.error, bad: true }
    case 'removing':
      return { main: text.status.removing, note: '', bad: false }
    case 'dead':
      return { main: text.status.dead, note: row.error ?? text.status.deadNote, bad: true }
    case 'exited': {
      if (row.error !== null) return { main: text.status.couldNotStart, note: row.error, bad: true }
      const why = row.exitCode === null ? '' : explainExit(row.exitCode, row.outOfMemory, text)
      const when = row.finished === null ? '' : ago(row.finished, now, text)
      return {
        main: row.exitCode === null ? text.status.ended : text.status.exited(row.exitCode),
        note: join([why, when], ', '),
        // When it ended is no news by itself.
        bad: why !== '' && endedBadly(row),
      }
    }
    default:
      return { main: row.status === '' ? text.status.unknown : row.status, note: '', bad: false }
  }
}
