import type { Text } from '../../lang'

const SECOND = 1_000
const MINUTE = 60 * SECOND
const HOUR = 60 * MINUTE
const DAY = 24 * HOUR
const MONTH = 30.44 * DAY
const YEAR = 365.25 * DAY

/** One unit, rounded down: `45 s`, `12 min`, `3 h`, `9 d`, `4 mo`, `2 y`. */
export function shortDuration(milliseconds: number, text: Text): string {
  const span = Math.max(0, milliseconds)
  if (span < MINUTE) return `${String(Math.floor(span / SECOND))} ${text.unit.second}`
  if (span < HOUR) return `${String(Math.floor(span / MINUTE))} ${text.unit.minute}`
  if (span < DAY) return `${String(Math.floor(span / HOUR))} ${text.unit.hour}`
  if (span < 90 * DAY) return `${String(Math.floor(span / DAY))} ${text.unit.day}`
  if (span < 2 * YEAR) return `${String(Math.floor(span / MONTH))} ${text.unit.month}`
  return `${String(Math.floor(span / YEAR))} ${text.unit.year}`
}

/** Two units where the second says something: `3 h 12 min`, `2 d 4 h`. */
export function longDuration(milliseconds: number, text: Text): string {
  const span = Math.max(0, milliseconds)
  const { minute, hour, day } = text.unit
  if (span >= HOUR && span < DAY) {
    const minutes = Math.floor((span % HOUR) / MINUTE)
    return `${String(Math.floor(span / HOUR))} ${hour}${minutes > 0 ? ` ${String(minutes)} ${minute}` : ''}`
  }
  if (span >= DAY && span < 14 * DAY) {
    const hours = Math.floor((span % DAY) / HOUR)
    return `${String(Math.floor(span / DAY))} ${day}${hours > 0 ? ` ${String(hours)} ${hour}` : ''}`
  }
  return shortDuration(span, text)
}

/** `3 h ago`; what lies in the future by a wrong clock is just now. */
export function ago(moment: number, now: number, text: Text): string {
  const span = now - moment
  return span < 5 * SECOND ? text.justNow : text.ago(shortDuration(span, text))
}

/** `840 ms`, `2.4 s`. */
export function stageDuration(milliseconds: number, text: Text): string {
  if (milliseconds < SECOND) return `${String(Math.round(milliseconds))} ${text.unit.millisecond}`
  if (milliseconds < MINUTE) return `${(milliseconds / SECOND).toFixed(1)} ${text.unit.second}`
  return longDuration(milliseconds, text)
}

/** Date and time in the reader's own way, for tooltips and details. */
export function moment(milliseconds: number, text: Text): string {
  return new Date(milliseconds).toLocaleString(text.code, { dateStyle: 'medium', timeStyle: 'medium' })
}
