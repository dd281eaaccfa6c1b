import { type AnsiColour, type AnsiStyle, parseAnsi } from '../../streams/ansi'
import type { SearchPattern } from '../../streams/log-search'
import { DRAWN_CHARACTERS } from './log-layout'

export interface Piece {
  text: string
  style: AnsiStyle | null
  hit: boolean
}

export interface DrawnLine {
  pieces: Piece[]
  plain: string
  /** Characters not drawn. */
  left: number
}

/** Cuts a line into pieces that have one style each and are a hit or not. */
export function piecesOf(raw: string, pattern: SearchPattern | null): DrawnLine {
  const parsed = parseAnsi(raw)
  const plain = parsed.text
  const length = Math.min(plain.length, DRAWN_CHARACTERS)
  const hits = pattern ? pattern.ranges(plain) : []
  const left = plain.length - length
  if (parsed.spans.length === 0 && hits.length === 0) {
    return { pieces: [{ text: left > 0 ? plain.slice(0, length) : plain, style: null, hit: false }], plain, left }
  }
  const edges = new Set<number>([0, length])
  for (const span of parsed.spans) edges.add(Math.min(span.start, length)).add(Math.min(span.end, length))
  for (const [start, end] of hits) edges.add(Math.min(start, length)).add(Math.min(end, length))
  const sorted = [...edges].sort((a, b) => a - b)
  const pieces: Piece[] = []
  let span = 0
  let hit = 0
  for (let index = 0; index + 1 < sorted.length; index += 1) {
    const start = sorted[index] ?? 0
    const end = sorted[index + 1] ?? 0
    while (span < parsed.spans.length && (parsed.spans[span]?.end ?? 0) <= start) span += 1
    while (hit < hits.length && (hits[hit]?.[1] ?? 0) <= start) hit += 1
    const inSpan = (parsed.spans[span]?.start ?? Infinity) <= start
    const inHit = (hits[hit]?.[0] ?? Infinity) <= start
    pieces.push({
      text: plain.slice(start, end),
      style: inSpan ? (parsed.spans[span]?.style ?? null) : null,
      hit: inHit,
    })
  }
  return { pieces, plain, left }
}

/** Takes the first `length` characters out of the pieces, unless a hit is among them. */
export function frontApart(pieces: Piece[], length: number): { front: string; rest: Piece[] } {
  const whole = { front: '', rest: pieces }
  let front = ''
  for (const [index, piece] of pieces.entries()) {
    if (front.length >= length) return { front, rest: pieces.slice(index) }
    if (piece.hit) return whole
    const taken = Math.min(piece.text.length, length - front.length)
    front += piece.text.slice(0, taken)
    if (taken < piece.text.length) {
      return { front, rest: [{ ...piece, text: piece.text.slice(taken) }, ...pieces.slice(index + 1)] }
    }
  }
  return whole
}

const NAMES = ['black', 'red', 'green', 'yellow', 'blue', 'magenta', 'cyan', 'white'] as const

/** Classes for what the palette has; the rest is set through the CSSOM. */
export function classesOf(style: AnsiStyle | null): string[] {
  if (!style) return []
  const classes: string[] = []
  if (style.bold) classes.push('bold')
  if (style.dim) classes.push('dim')
  if (style.italic) classes.push('italic')
  if (style.underline) classes.push('underline')
  if (style.struck) classes.push('struck')
  const front = style.inverse ? style.background : style.foreground
  const back = style.inverse ? style.foreground : style.background
  if (typeof front === 'number') classes.push(`front-${colourName(front)}`)
  if (typeof back === 'number') classes.push(`back-${colourName(back)}`)
  if (style.inverse && front === null) classes.push('front-surface')
  if (style.inverse && back === null) classes.push('back-text')
  return classes
}

function colourName(index: number): string {
  return `${index >= 8 ? 'bright-' : ''}${NAMES[index % 8] ?? 'white'}`
}

export function coloursOf(style: AnsiStyle | null, dark: boolean): { front: string | null; back: string | null } {
  if (!style) return { front: null, back: null }
  const front = literal(style.inverse ? style.background : style.foreground)
  const back = literal(style.inverse ? style.foreground : style.background)
  // What is written on a colour of its own needs ink that shows on it.
  if (back !== null && (style.inverse ? style.background : style.foreground) === null) {
    return { front: inkOn(back), back }
  }
  // A colour chosen for somebody else's background is made readable on this page's.
  return { front: front !== null && back === null ? readable(front, dark) : front, back }
}

function literal(colour: AnsiColour | null): string | null {
  return typeof colour === 'string' ? colour : null
}

const CONTRAST = 4.6
const DARK_SURFACE = luminance([0x1c, 0x22, 0x26])
const LIGHT_SURFACE = luminance([0xf7, 0xe8, 0xe7])
const STEPS = 10
const KNOWN_AT_MOST = 2_000
const known = new Map<string, string>()

/** The colour, moved towards white or black until it stands out from the page. */
export function readable(colour: string, dark: boolean): string {
  const key = `${colour}${String(dark)}`
  const before = known.get(key)
  if (before !== undefined) return before
  const channels = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16) || 0)
  const target = dark ? 255 : 0
  let found = channels
  for (let step = 0; step <= STEPS; step += 1) {
    found = channels.map((channel) => Math.round(channel + ((target - channel) * step) / STEPS))
    const own = luminance(found)
    const ratio = dark ? (own + 0.05) / (DARK_SURFACE + 0.05) : (LIGHT_SURFACE + 0.05) / (own + 0.05)
    if (ratio >= CONTRAST) break
  }
  const answer = `rgb(${found.join(' ')})`
  if (known.size >= KNOWN_AT_MOST) known.clear()
  known.set(key, answer)
  return answer
}

function inkOn(colour: string): string {
  const channels = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16) || 0)
  return luminance(channels) > 0.18 ? '#000000' : '#ffffff'
}

function luminance(channels: readonly number[]): number {
  const [red = 0, green = 0, blue = 0] = channels.map((channel) => {
    const part = channel / 255
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4
  })
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue
}
