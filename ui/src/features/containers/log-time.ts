import type { Timestamps } from '../../state/settings.svelte'

function two(number: number): string {
  return number < 10 ? `0${String(number)}` : String(number)
}

function three(number: number): string {
  return String(number).padStart(3, '0')
}

/** `14:02:11.032`; empty where the engine gave no time or times are off. */
export function logTime(milliseconds: number, how: Timestamps): string {
  if (milliseconds <= 0 || how === 'off') return ''
  const date = new Date(milliseconds)
  return how === 'utc'
    ? `${two(date.getUTCHours())}:${two(date.getUTCMinutes())}:${two(date.getUTCSeconds())}.${three(date.getUTCMilliseconds())}`
    : `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}.${three(date.getMilliseconds())}`
}
