import { describe, expect, it } from 'vitest'
import type { LogLine } from '../wire'
import { levelOf } from './log-level'
import { LogRing } from './log-ring'
import { compileSearch, LogHits, type SearchPattern } from './log-search'

function lines(from: number, count: number): LogLine[] {
  return Array.from(
    { length: count },
    (_, index) => [from + index, 0, `line ${String(from + index)}`] satisfies LogLine,
  )
}

function patternOf(query: string, regex = false): SearchPattern {
  const result = compileSearch(query, regex)
  if (!('pattern' in result) || !result.pattern) throw new Error(`no pattern: ${query}`)
  return result.pattern
}

describe('log ring', () => {
  it('keeps the last lines and numbers them for good', () => {
    const ring = new LogRing(10)
    ring.push(lines(0, 25))
    expect([ring.first, ring.end, ring.size]).toEqual([15, 25, 10])
    expect(ring.text(15)).toBe('line 15')
    expect(ring.text(24)).toBe('line 24')
  })

  it('stays cleared', () => {
    const ring = new LogRing(10)
    ring.push(lines(0, 5))
    ring.clear()
    expect(ring.size).toBe(0)
    ring.push(lines(5, 1))
    expect([ring.first, ring.size, ring.text(5)]).toEqual([5, 1, 'line 5'])
  })

  it('knows gaps, notes, cuts and standard error', () => {
    const ring = new LogRing(10)
    ring.push([
      [1, 1, 'bad'],
      [2, 2, 'long'],
      [3, 4, 'started again'],
      [4, 255, 'all bits'],
    ])
    ring.pushGap({ lines: 1_204, bytes: 9, from: 4, to: 5 })
    expect(ring.isStandardError(0)).toBe(true)
    expect(ring.isCut(1)).toBe(true)
    expect(ring.kind(2)).toBe('note')
    expect(ring.kind(3), 'the wire cannot make a gap out of a line').toBe('note')
    expect([ring.kind(4), ring.text(4)]).toEqual(['gap', '1204'])
  })

  it('takes a flood without slowing down', () => {
    const ring = new LogRing()
    const batch = lines(0, 1_000)
    const begun = performance.now()
    for (let round = 0; round < 1_000; round += 1) ring.push(batch)
    expect(performance.now() - begun, 'a million lines').toBeLessThan(1_500)
    expect(ring.size).toBe(50_000)
  })
})

describe('log search', () => {
  it('finds hits a little at a time and forgets what left the ring', () => {
    const ring = new LogRing(1_000)
    ring.push(lines(0, 1_000))
    const hits = new LogHits(patternOf('line 9'), ring)
    let clock = 0
    let rounds = 0
    while (!hits.scan(ring, 1, () => clock++)) rounds += 1
    expect(rounds, 'it stopped in between').toBeGreaterThan(0)
    expect(hits.count, '9, 90 to 99, 900 to 999').toBe(111)
    ring.push(lines(1_000, 500))
    hits.scan(ring, 1_000)
    expect(hits.at(0)).toBe(900)
    expect(hits.before(905)).toBe(5)
  })

  it('looks behind escapes and ignores case until a capital asks for it', () => {
    const ring = new LogRing(10)
    ring.push([
      [0, 0, 'pay\u001b[31mment\u001b[0m'],
      [0, 0, 'Payment'],
    ])
    const all = new LogHits(patternOf('payment'), ring)
    all.scan(ring, 100)
    expect(all.count).toBe(2)
    const exact = new LogHits(patternOf('Payment'), ring)
    exact.scan(ring, 100)
    expect(exact.count).toBe(1)
  })

  it('says what is wrong with a pattern', () => {
    const result = compileSearch('(', true)
    expect('broken' in result && result.broken).toMatch(/unterminated group/i)
    expect(patternOf('(').ranges('a(b('), 'plain text is no pattern').toEqual([
      [1, 2],
      [3, 4],
    ])
  })

  it('ends on patterns that match nothing', () => {
    expect(patternOf('x*', true).ranges('axxb')).toEqual([[1, 3]])
  })
})

describe('log level', () => {
  it.each([
    ['2026-01-01 ERROR boom', 'error'],
    ['[warn] slow', 'warn'],
    ['level=info msg="x"', 'info'],
    ['{"level":"debug","msg":"x"}', 'debug'],
    ['{"level":50,"msg":"x"}', 'error'],
    ['W0102 10:11:12.000000 1 main.go:1] x', 'warn'],
    ['info: ready', 'info'],
    ['2026-01-01 00:00:00.000 UTC [1] LOG:  ready', 'info'],
    ['severity=CRITICAL x', 'error'],
    ['no errors were found', null],
    ['GET /error 200', null],
    ['level=__proto__', null],
    ['', null],
  ])('%s', (line, level) => {
    expect(levelOf(line)).toBe(level)
  })

  it('looks only at the beginning of a long line', () => {
    expect(levelOf(`${' '.repeat(1_000)} ERROR`)).toBeNull()
  })
})
