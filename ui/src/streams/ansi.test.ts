import { describe, expect, it } from 'vitest'
import { parseAnsi, stripAnsi } from './ansi'

const E = '\u001b'

function styled(line: string): [string, Record<string, unknown>][] {
  const parsed = parseAnsi(line)
  return parsed.spans.map(({ start, end, style }) => [
    parsed.text.slice(start, end),
    Object.fromEntries(Object.entries(style).filter(([, value]) => value !== null && value !== false)),
  ])
}

describe('ansi', () => {
  it('leaves plain text alone', () => {
    expect(parseAnsi('a\tb ü 漢 [31m')).toEqual({ text: 'a\tb ü 漢 [31m', spans: [] })
  })

  it.each([
    [
      '16 colours',
      `${E}[31mred${E}[0m x ${E}[92mbright`,
      [
        ['red', { foreground: 1 }],
        ['bright', { foreground: 10 }],
      ],
    ],
    [
      '256 colours',
      `${E}[38;5;208mo${E}[48;5;3mb`,
      [
        ['o', { foreground: '#ff8700' }],
        ['b', { foreground: '#ff8700', background: 3 }],
      ],
    ],
    ['grey ramp', `${E}[38;5;255mg`, [['g', { foreground: '#eeeeee' }]]],
    ['true colour', `${E}[38;2;1;2;300mt`, [['t', { foreground: '#0102ff' }]]],
    [
      'colons',
      `${E}[38:2::1:2:3mt${E}[38:5:9mu`,
      [
        ['t', { foreground: '#010203' }],
        ['u', { foreground: 9 }],
      ],
    ],
    [
      'weights',
      `${E}[1;3;4;9mw${E}[22;23;24;29mx`,
      [['w', { bold: true, italic: true, underline: true, struck: true }]],
    ],
    ['reset by nothing', `${E}[1mb${E}[mp`, [['b', { bold: true }]]],
    ['inverse', `${E}[7mi${E}[27mp`, [['i', { inverse: true }]]],
  ])('reads %s', (_name, line, expected) => {
    expect(styled(line)).toEqual(expected)
  })

  it.each([
    ['cursor movement', `a${E}[2Kb${E}[10;5Hc${E}[?25ld`, 'abcd'],
    ['a title', `a${E}]0;owned\u0007b`, 'ab'],
    ['a link as its text', `${E}]8;;http://evil.example${E}\\text${E}]8;;${E}\\ on`, 'text on'],
    ['a clipboard write', `a${E}]52;c;aGk=${E}\\b`, 'ab'],
    ['a device string', `a${E}Pq#0;2;0~${E}\\b`, 'ab'],
    ['character sets', `a${E}(Bb${E}=c`, 'abc'],
    ['8-bit controls', 'a\u009b31mb\u0085c', 'abc'],
    ['nul and bell', 'a\u0000b\u0007c\u0008d', 'abcd'],
    ['an escape at the end', `a${E}`, 'a'],
    ['an unfinished sequence', `a${E}[31`, 'a'],
    ['a broken sequence', `a${E}[3\u0001mb`, 'amb'],
    ['a progress display', '10%\r20%\r', '10% 20%'],
  ])('strips %s', (_name, line, expected) => {
    expect(parseAnsi(line).text).toBe(expected)
    expect(stripAnsi(line)).toBe(expected)
  })

  it('hides nothing behind a string without an end', () => {
    expect(stripAnsi(`before${E}]0;title and the rest of the line`)).toBe('before0;title and the rest of the line')
  })

  it('survives numbers without measure', () => {
    expect(parseAnsi(`${E}[9999999999mx`)).toEqual({ text: 'x', spans: [] })
    expect(parseAnsi(`${E}[38;5;9999999999mx`).text).toBe('x')
    expect(parseAnsi(`${E}[${'1;'.repeat(100_000)}mx`).text).toBe('x')
  })

  it.each([
    ['an unterminated OSC of 10 MB', `${E}]${'x'.repeat(10_000_000)}`],
    ['a million OSC beginnings', `${E}]`.repeat(1_000_000)],
    ['a million CSI sequences', `${E}[31m`.repeat(1_000_000)],
    ['a million CSI with text', `${E}[31mx${E}[0my`.repeat(500_000)],
    ['a million escapes', E.repeat(1_000_000)],
    ['a CSI of a million parameters', `${E}[${';'.repeat(1_000_000)}m`],
  ])('reads %s in linear time', (_name, line) => {
    const begun = performance.now()
    const parsed = parseAnsi(line)
    expect(performance.now() - begun, 'quadratic work would take minutes').toBeLessThan(3_000)
    expect(parsed.spans.length).toBeLessThanOrEqual(1_000)
  })

  it('gives spans that lie in the text and do not overlap, whatever comes', () => {
    const alphabet = [E, '[', ']', 'm', ';', '3', '1', '8', '\u0007', '\\', 'x', '\r', '\u009b', ':', 'P']
    let seed = 7
    const random = (): number => (seed = (seed * 1_103_515_245 + 12_345) & 0x7fffffff)
    for (let round = 0; round < 3_000; round += 1) {
      const line = Array.from({ length: random() % 40 }, () => alphabet[random() % alphabet.length]).join('')
      const { text, spans } = parseAnsi(line)
      expect(text).toBe(stripAnsi(line))
      expect(text).not.toContain(E)
      let at = 0
      for (const span of spans) {
        expect(span.start).toBeGreaterThanOrEqual(at)
        expect(span.end).toBeGreaterThan(span.start)
        at = span.end
      }
      expect(at).toBeLessThanOrEqual(text.length)
    }
  })
})
