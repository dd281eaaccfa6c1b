import { describe, expect, it } from 'vitest'
import { matchable } from '../../testing'
import type { ContainerRow } from '../../wire'
import { parseFilter, segmentOf, tokenize, withSegment } from './filter'

function matches(query: string, change: Partial<ContainerRow> = {}): boolean {
  return parseFilter(query).matches(matchable(change))
}

describe('filter', () => {
  it('cuts text into tokens and remembers where they stand', () => {
    const query = 'is:running  project:"my shop" -image:nginx postgres:17 "two words"'
    const tokens = tokenize(query)
    expect(tokens.map(({ key, value, negated }) => [key, value, negated])).toEqual([
      ['is', 'running', false],
      ['project', 'my shop', false],
      ['image', 'nginx', true],
      [null, 'postgres:17', false],
      [null, 'two words', false],
    ])
    for (const token of tokens) expect(query.slice(token.start, token.end)).not.toMatch(/^\s|\s$/)
  })

  it.each<[string, Partial<ContainerRow>, boolean]>([
    ['', {}, true],
    ['is:running', { state: 'running' }, true],
    ['is:running', { state: 'paused' }, true],
    ['is:running', { state: 'exited' }, false],
    ['is:stopped', { state: 'created' }, true],
    ['is:paused', { state: 'paused' }, true],
    ['is:paused', { state: 'running' }, false],
    ['is:restarting', { state: 'restarting' }, true],
    ['is:unhealthy', { health: 'unhealthy' }, true],
    ['is:exited is:created', { state: 'created' }, true],
    ['-is:exited', { state: 'exited' }, false],
    ['is:run', { state: 'running' }, true],
    ['project:shop', { project: 'Shop' }, true],
    ['project:shop', { project: 'shop2' }, false],
    ['image:postgres', { image: 'docker.io/postgres:17' }, true],
    ['name:eb', {}, true],
    ['name:api', {}, false],
    ['health:healthy', { health: 'healthy' }, true],
    ['health:none', { health: null }, true],
    ['port:8080', { ports: [{ protocol: 'tcp', containerPort: 80, hostPort: 8080, hostAddress: '::' }] }, true],
    ['port:80', { ports: [{ protocol: 'tcp', containerPort: 80, hostPort: 8080, hostAddress: '::' }] }, true],
    ['port:808', { ports: [{ protocol: 'tcp', containerPort: 80, hostPort: 8080, hostAddress: '::' }] }, false],
    ['network:shop', { networks: ['shop_default'] }, true],
    ['id:aaa', {}, true],
    ['id:bbb', {}, false],
    ['label:tier', { labels: { tier: 'web' } }, true],
    ['label:tier=web', { labels: { tier: 'web' } }, true],
    ['label:tier=db', { labels: { tier: 'web' } }, false],
    ['label:a label:b', { labels: { a: '' } }, false],
    ['label:toString', { labels: {} }, false],
    ['label:__proto__', { labels: {} }, false],
    ['label:__proto__=x', { labels: JSON.parse('{"__proto__":"x"}') as Record<string, string> }, true],
    ['web shop', {}, true],
    ['web nothing', {}, false],
    ['-web', {}, false],
    ['-', {}, true],
    ['(.*', {}, false],
    ['is:running project:shop', { project: 'shop', state: 'exited' }, false],
    ['label:"my key=a b"', { labels: { 'my key': 'a b' } }, true],
  ])('%s', (query, change, expected) => {
    expect(matches(query, change)).toBe(expected)
  })

  it('leaves out what can match nothing, and says so', () => {
    const filter = parseFilter('is:nonsense port:abc')
    expect(filter.tokens.map((token) => token.unknown)).toEqual([true, true])
    expect(filter.idle).toBe(true)
  })

  it('survives any text', () => {
    for (const query of [
      '"',
      '-"',
      'label:',
      'label:=',
      ':',
      '::',
      '-:',
      'is:"',
      '\u202e',
      '-'.repeat(5_000),
      '"'.repeat(5_000),
    ]) {
      expect(() => matches(query)).not.toThrow()
    }
  })

  it('writes segments as tokens and reads them back', () => {
    const query = withSegment('project:shop is:paused  web', 'running')
    expect(query).toBe('is:running project:shop web')
    expect(segmentOf(tokenize(query))).toBe('running')
    expect(withSegment(query, 'all')).toBe('project:shop web')
    expect(segmentOf(tokenize('project:shop'))).toBe('all')
    expect(segmentOf(tokenize('is:paused'))).toBeNull()
  })
})
