import { describe, expect, it } from 'vitest'
import { levelLength, levelOf } from './log-level'

const rest = (line: string): string => line.slice(levelLength(line, levelOf(line)))

describe('a level at the front of a line', () => {
  it('is taken off when the column says the same', () => {
    expect(rest('INFO GET / 200')).toBe('GET / 200')
    expect(rest('[warn] slow query')).toBe('slow query')
    expect(rest('error: no such file')).toBe('no such file')
    expect(rest('DEBUG   cache hit')).toBe('cache hit')
  })

  it('stays when it says more than the column', () => {
    for (const line of ['FATAL out of memory', 'NOTICE: relation exists', 'TRACE enter']) expect(rest(line)).toBe(line)
  })

  it('stays when it is a word of a sentence, all there is, or not the level of the line', () => {
    for (const line of [
      'Error while reading',
      'warning message',
      'INFO',
      'INFO level=error',
      'INFORMATION desk',
      'hello',
    ])
      expect(rest(line)).toBe(line)
  })
})
