/**
 * Reads a log line with escape sequences into plain text and styled spans.
 *
 * Total and linear: every character is looked at once, nothing throws, and whatever the line holds, the number
 * of spans and parameters is bounded. Only colours and weights survive; every other sequence is left out.
 */

/** 0 to 15 are the palette's, `#rrggbb` anything else. */
export type AnsiColour = number | string

export interface AnsiStyle {
  foreground: AnsiColour | null
  background: AnsiColour | null
  bold: boolean
  dim: boolean
  italic: boolean
  underline: boolean
  struck: boolean
  inverse: boolean
}

export interface AnsiSpan {
  start: number
  end: number
  style: AnsiStyle
}

export interface AnsiLine {
  text: string
  /** In order, not overlapping; text outside them is unstyled. */
  spans: AnsiSpan[]
}

const SPANS_AT_MOST = 1_000
const PARAMETERS_AT_MOST = 32
const NUMBER_AT_MOST = 9_999

const PLAIN: AnsiStyle = {
  foreground: null,
  background: null,
  bold: false,
  dim: false,
  italic: false,
  underline: false,
  struck: false,
  inverse: false,
}

const ESCAPE = 0x1b
const BELL = 0x07
const BACKSLASH = 0x5c
const NEEDS_WORK = /[\x00-\x08\x0a-\x1f\x7f-\x9f]/

export function parseAnsi(line: string): AnsiLine {
  if (!NEEDS_WORK.test(line)) return { text: line, spans: [] }
  return read(line, true)
}

/** The text alone, for search, copies and lengths. */
export function stripAnsi(line: string): string {
  return NEEDS_WORK.test(line) ? read(line, false).text : line
}

function read(line: string, styled: boolean): AnsiLine {
  const pieces: string[] = []
  const spans: AnsiSpan[] = []
  let style = PLAIN
  let length = 0
  let spanStart = 0
  let position = 0

  const take = (from: number, to: number): void => {
    if (to <= from) return
    pieces.push(line.slice(from, to))
    length += to - from
  }
  const closeSpan = (): void => {
    if (styled && style !== PLAIN && length > spanStart && spans.length < SPANS_AT_MOST) {
      spans.push({ start: spanStart, end: length, style })
    }
    spanStart = length
  }

  while (position < line.length) {
    let next = position
    while (next < line.length && isText(line.charCodeAt(next))) next += 1
    take(position, next)
    position = next
    if (position >= line.length) break

    const code = line.charCodeAt(position)
    if (code === 0x0d) {
      // A carriage return inside a line is a progress display; the states stay readable side by side.
      if (position + 1 < line.length) {
        pieces.push(' ')
        length += 1
      }
      position += 1
    } else if (code === 0x9b) {
      position = control(position + 1)
    } else if (code !== ESCAPE) {
      position += 1
    } else {
      const kind = line.charCodeAt(position + 1)
      if (kind === 0x5b) position = control(position + 2)
      else if (kind === 0x5d || kind === 0x50 || kind === 0x58 || kind === 0x5e || kind === 0x5f) {
        position = skipString(line, position + 2)
      } else position = skipEscape(line, position + 1)
    }
  }
  closeSpan()
  return { text: pieces.join(''), spans }

  /** Reads `parameters intermediates final`; returns where text goes on. */
  function control(from: number): number {
    let at = from
    while (at < line.length && inRange(line.charCodeAt(at), 0x30, 0x3f)) at += 1
    const parametersEnd = at
    while (at < line.length && inRange(line.charCodeAt(at), 0x20, 0x2f)) at += 1
    if (at >= line.length) return at
    const final = line.charCodeAt(at)
    // What is no final byte ends the sequence and is read for itself.
    if (!inRange(final, 0x40, 0x7e)) return at
    if (styled && final === 0x6d && at === parametersEnd) {
      const changed = applied(style, parametersOf(line, from, parametersEnd))
      closeSpan()
      style = changed
    }
    return at + 1
  }
}

function isText(code: number): boolean {
  return (code >= 0x20 && code < 0x7f) || code === 0x09 || code > 0x9f
}

function inRange(code: number, low: number, high: number): boolean {
  return code >= low && code <= high
}

/** OSC, DCS and their like: up to BEL, ST or the next escape. One without an end hides nothing. */
function skipString(line: string, from: number): number {
  for (let at = from; at < line.length; at += 1) {
    const code = line.charCodeAt(at)
    if (code === BELL || code === 0x9c) return at + 1
    if (code === ESCAPE) return line.charCodeAt(at + 1) === BACKSLASH ? at + 2 : at
  }
  return from
}

function skipEscape(line: string, from: number): number {
  let at = from
  while (at < line.length && inRange(line.charCodeAt(at), 0x20, 0x2f)) at += 1
  return at < line.length && inRange(line.charCodeAt(at), 0x30, 0x7e) ? at + 1 : at
}

/** Parameters by `;`, each with its parts by `:`. */
function parametersOf(line: string, from: number, to: number): number[][] {
  const parameters: number[][] = [[0]]
  let current = parameters[0] ?? [0]
  for (let at = from; at < to; at += 1) {
    const code = line.charCodeAt(at)
    const last = current.length - 1
    if (code >= 0x30 && code <= 0x39) {
      current[last] = Math.min(NUMBER_AT_MOST, (current[last] ?? 0) * 10 + code - 0x30)
    } else if (code === 0x3b) {
      if (parameters.length >= PARAMETERS_AT_MOST) break
      current = [0]
      parameters.push(current)
    } else if (code === 0x3a) {
      if (current.length < 8) current.push(0)
    } else return []
  }
  return parameters
}

function applied(before: AnsiStyle, parameters: number[][]): AnsiStyle {
  let style: AnsiStyle = { ...before }
  for (let index = 0; index < parameters.length; index += 1) {
    const parameter = parameters[index] ?? [0]
    const code = parameter[0] ?? 0
    if (code === 0) style = { ...PLAIN }
    else if (code === 1) style.bold = true
    else if (code === 2) style.dim = true
    else if (code === 3) style.italic = true
    else if (code === 4) style.underline = parameter[1] !== 0 || parameter.length === 1
    else if (code === 7) style.inverse = true
    else if (code === 9) style.struck = true
    else if (code === 22) style.bold = style.dim = false
    else if (code === 23) style.italic = false
    else if (code === 24) style.underline = false
    else if (code === 27) style.inverse = false
    else if (code === 29) style.struck = false
    else if (code >= 30 && code <= 37) style.foreground = code - 30
    else if (code === 39) style.foreground = null
    else if (code >= 40 && code <= 47) style.background = code - 40
    else if (code === 49) style.background = null
    else if (code >= 90 && code <= 97) style.foreground = code - 82
    else if (code >= 100 && code <= 107) style.background = code - 92
    else if (code === 38 || code === 48) {
      const extended = parameter.length > 1 ? partsColour(parameter) : listColour(parameters, index)
      index += extended.used
      if (extended.colour !== null) style[code === 38 ? 'foreground' : 'background'] = extended.colour
    }
  }
  return isPlain(style) ? PLAIN : style
}

function isPlain(style: AnsiStyle): boolean {
  return (
    style.foreground === null &&
    style.background === null &&
    !(style.bold || style.dim || style.italic || style.underline || style.struck || style.inverse)
  )
}

interface Extended {
  colour: AnsiColour | null
  /** Parameters it took beyond its own. */
  used: number
}

function listColour(parameters: number[][], index: number): Extended {
  const at = (offset: number): number => parameters[index + offset]?.[0] ?? 0
  if (at(1) === 5) return { colour: indexed(at(2)), used: 2 }
  if (at(1) === 2) return { colour: hex(at(2), at(3), at(4)), used: 4 }
  return { colour: null, used: 0 }
}

function partsColour(parts: number[]): Extended {
  if (parts[1] === 5) return { colour: indexed(parts[2] ?? 0), used: 0 }
  // `38:2:r:g:b` and, with a colour space, `38:2::r:g:b`.
  const first = parts.length >= 6 ? 3 : 2
  if (parts[1] === 2) return { colour: hex(parts[first] ?? 0, parts[first + 1] ?? 0, parts[first + 2] ?? 0), used: 0 }
  return { colour: null, used: 0 }
}

function indexed(number: number): AnsiColour | null {
  if (number > 255) return null
  if (number < 16) return number
  if (number >= 232) {
    const grey = 8 + (number - 232) * 10
    return hex(grey, grey, grey)
  }
  const cube = number - 16
  const step = (value: number): number => (value === 0 ? 0 : 55 + value * 40)
  return hex(step(Math.floor(cube / 36)), step(Math.floor(cube / 6) % 6), step(cube % 6))
}

function hex(red: number, green: number, blue: number): string {
  const part = (value: number): string => Math.min(255, value).toString(16).padStart(2, '0')
  return `#${part(red)}${part(green)}${part(blue)}`
}
