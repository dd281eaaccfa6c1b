import { describe, expect, it } from 'vitest'
import { de } from '../../lang/de'
import { en } from '../../lang/en'
import { ago, longDuration, shortDuration, stageDuration } from '../../lib/format/duration'
import { row } from '../../testing'
import type { ContainerRow } from '../../wire'
import { publishedPorts } from './ports'
import { explainExit, statusOf, toneOf } from './status'

const HOUR = 3_600_000
const NOW = 1_000 * HOUR

function say(change: Partial<ContainerRow>, text = en): string {
  const { main, note } = statusOf(row(change), NOW, text)
  return note === '' ? main : `${main} · ${note}`
}

describe('status', () => {
  it.each<[Partial<ContainerRow>, string, string]>([
    [{ started: NOW - 3 * HOUR, health: 'healthy' }, 'Up 3 h · healthy', 'running'],
    [{ started: NOW - 3 * HOUR }, 'Up 3 h', 'running'],
    [{ started: NOW - 10_000, health: 'starting' }, 'Up 10 s · health check starting', 'running'],
    [{ started: NOW - 48 * HOUR, health: 'unhealthy' }, 'Unhealthy · health check fails, up 2 d', 'unhealthy'],
    [{ state: 'exited', exitCode: 0, finished: NOW - 3 * HOUR }, 'Exited 0 · 3 h ago', 'idle'],
    [
      { state: 'exited', exitCode: 137, finished: NOW - 3 * HOUR },
      'Exited 137 · out of memory or killed, 3 h ago',
      'idle',
    ],
    [
      { state: 'exited', exitCode: 137, outOfMemory: true, finished: NOW },
      'Exited 137 · out of memory, just now',
      'failed',
    ],
    [{ state: 'exited', exitCode: 1, finished: NOW - 60_000 }, 'Exited 1 · 1 min ago', 'failed'],
    [{ state: 'exited', exitCode: 128, error: 'no such file' }, 'Could not start · no such file', 'failed'],
    [
      { state: 'restarting', restartCount: 4, exitCode: 137 },
      'Restarting · 4th time, exit 137 · out of memory or killed',
      'working',
    ],
    [{ state: 'restarting', restartCount: 22, exitCode: 1 }, 'Restarting · 22nd time, exit 1', 'working'],
    [{ state: 'paused', started: NOW - HOUR }, 'Paused · up 1 h', 'paused'],
    [{ state: 'created', started: null }, 'Created · never started', 'idle'],
    [{ state: 'created', started: null, error: 'port is taken' }, 'Could not start · port is taken', 'failed'],
    [{ state: 'removing' }, 'Being deleted', 'working'],
    [{ state: 'unknown', status: 'Whatever' }, 'Whatever', 'idle'],
  ])('%o', (change, expected, tone) => {
    expect(say(change)).toBe(expected)
    expect(toneOf(row(change))).toBe(tone)
  })

  it('speaks German', () => {
    expect(say({ state: 'restarting', restartCount: 4, exitCode: 1 }, de)).toBe('Startet neu · 4. Mal, Code 1')
    expect(say({ state: 'exited', exitCode: 0, finished: NOW - 3 * HOUR }, de)).toBe('Beendet 0 · vor 3 h')
  })

  it('explains codes, and only those that mean something', () => {
    expect(explainExit(139, false, en)).toContain('crashed')
    expect(explainExit(127, false, en)).toBe('command not found')
    expect(explainExit(143, false, en)).toBe('terminated')
    expect(explainExit(129, false, en)).toBe('ended by signal 1')
    expect(explainExit(3, false, en)).toBe('')
    expect(explainExit(255, false, en)).toBe('')
  })
})

describe('durations', () => {
  it.each([
    [-5, '0 s'],
    [59_999, '59 s'],
    [60_000, '1 min'],
    [HOUR - 1, '59 min'],
    [24 * HOUR - 1, '23 h'],
    [24 * HOUR, '1 d'],
    [89 * 24 * HOUR, '89 d'],
    [120 * 24 * HOUR, '3 mo'],
    [800 * 24 * HOUR, '2 y'],
  ])('%i ms', (span, expected) => {
    expect(shortDuration(span, en)).toBe(expected)
  })

  it('has a longer form and one for stages', () => {
    expect(longDuration(3 * HOUR + 12 * 60_000, en)).toBe('3 h 12 min')
    expect(longDuration(3 * HOUR, en)).toBe('3 h')
    expect(longDuration(52 * HOUR, en)).toBe('2 d 4 h')
    expect(stageDuration(212, en)).toBe('212 ms')
    expect(stageDuration(1_840, en)).toBe('1.8 s')
  })

  it('never speaks of the future', () => {
    expect(ago(NOW + HOUR, NOW, en)).toBe('just now')
  })
})

describe('ports', () => {
  const port = (hostPort: number | null, hostAddress: string | null, protocol = 'tcp') => ({
    protocol,
    containerPort: 80,
    hostPort,
    hostAddress,
  })

  it('shows what is published once, and links tcp', () => {
    const shown = publishedPorts([port(8080, '::'), port(8080, '0.0.0.0'), port(53, null, 'udp'), port(null, null)])
    expect(shown.map(({ label, address }) => [label, address])).toEqual([
      [':53/udp', null],
      [':8080', 'http://localhost:8080'],
    ])
  })

  it('names other addresses', () => {
    expect(publishedPorts([port(80, '10.0.0.5')])[0]).toMatchObject({
      label: '10.0.0.5:80',
      address: 'http://10.0.0.5:80',
    })
    expect(publishedPorts([port(80, 'fe80::1')])[0]?.address).toBe('http://[fe80::1]:80')
  })
})
