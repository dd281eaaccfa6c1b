import { type Container, isAlive } from '../../state/container.svelte'
import type { ContainerRow } from '../../wire'

const KEYS = ['is', 'project', 'image', 'name', 'label', 'health', 'port', 'network', 'id'] as const
type Key = (typeof KEYS)[number]

const STATES = ['running', 'stopped', 'paused', 'restarting', 'unhealthy', 'exited', 'created'] as const
type StateWord = (typeof STATES)[number]

const HEALTHS = ['starting', 'healthy', 'unhealthy', 'none'] as const

export interface Token {
  /** Null for free text. */
  key: Key | null
  value: string
  negated: boolean
  /** Where it stands in the text, for drawing it. */
  start: number
  end: number
  /** Its value can match nothing; it is shown as such and left out. */
  unknown: boolean
}

export interface Filter {
  tokens: Token[]
  /** Nothing in it hides a row. */
  idle: boolean
  matches(container: Pick<Container, 'row' | 'haystack'>): boolean
}

const TOKEN = /(-?)(?:([a-z]+):)?(?:"([^"]*)"?|(\S*))/iy

function isKey(word: string): word is Key {
  return (KEYS as readonly string[]).includes(word)
}

export function tokenize(query: string): Token[] {
  const tokens: Token[] = []
  let position = 0
  while (position < query.length) {
    if (/\s/.test(query.charAt(position))) {
      position += 1
      continue
    }
    TOKEN.lastIndex = position
    const found = TOKEN.exec(query)
    if (!found || found[0] === '') break
    const end = position + found[0].length
    const [whole, dash = '', word, quoted, plain = ''] = found
    const key = word?.toLowerCase() ?? ''
    // `postgres:17` is an image, not a key.
    const token: Token = isKey(key)
      ? { key, value: quoted ?? plain, negated: dash !== '', start: position, end, unknown: false }
      : {
          key: null,
          value: quoted !== undefined && word === undefined ? quoted : whole.slice(dash.length).replaceAll('"', ''),
          negated: dash !== '' && whole.length > 1,
          start: position,
          end,
          unknown: false,
        }
    token.unknown = !meaningful(token)
    tokens.push(token)
    position = end
  }
  return tokens
}

function meaningful(token: Token): boolean {
  const value = token.value.toLowerCase()
  if (token.key === 'is') return STATES.some((state) => state.startsWith(value))
  if (token.key === 'health') return HEALTHS.some((health) => health.startsWith(value))
  if (token.key === 'port') return /^\d{0,5}$/.test(value)
  return true
}

function inState(row: ContainerRow, state: StateWord): boolean {
  switch (state) {
    case 'running':
      return isAlive(row)
    case 'stopped':
      return !isAlive(row)
    case 'unhealthy':
      return row.health === 'unhealthy'
    default:
      return row.state === state
  }
}

/** What comes after a key may be a beginning: `is:run` while it is being typed. */
function begun<T extends string>(words: readonly T[], value: string): T | undefined {
  return words.find((word) => word === value) ?? words.find((word) => word.startsWith(value))
}

type Test = (container: Pick<Container, 'row' | 'haystack'>) => boolean

function testOf(token: Token): Test {
  const value = token.value.toLowerCase()
  switch (token.key) {
    case null:
      return ({ haystack }) => haystack.includes(value)
    case 'is': {
      const state = begun(STATES, value)
      return ({ row }) => state !== undefined && inState(row, state)
    }
    case 'health': {
      const health = begun(HEALTHS, value)
      return ({ row }) => (row.health ?? 'none') === health
    }
    case 'project':
      return ({ row }) => row.project?.toLowerCase() === value
    case 'image':
      return ({ row }) => row.image.toLowerCase().includes(value)
    case 'name':
      return ({ row }) => row.name.toLowerCase().includes(value)
    case 'network':
      return ({ row }) => row.networks.some((network) => network.toLowerCase().includes(value))
    case 'id':
      return ({ row }) => row.id.startsWith(value)
    case 'port': {
      const port = Number(value)
      return ({ row }) => row.ports.some((one) => one.hostPort === port || one.containerPort === port)
    }
    case 'label': {
      const equals = token.value.indexOf('=')
      const name = equals < 0 ? token.value : token.value.slice(0, equals)
      const wanted = equals < 0 ? null : token.value.slice(equals + 1)
      return ({ row }) => Object.hasOwn(row.labels, name) && (wanted === null || row.labels[name] === wanted)
    }
  }
}

/** Tokens of one key widen (`is:paused is:exited`), different keys narrow; labels and free text always narrow. */
export function parseFilter(query: string): Filter {
  const tokens = tokenize(query)
  const every: Test[] = []
  const any = new Map<Key, Test[]>()
  for (const token of tokens) {
    if (token.unknown || token.value === '') continue
    const test = testOf(token)
    if (token.negated) every.push((container) => !test(container))
    else if (token.key === null || token.key === 'label') every.push(test)
    else {
      const tests = any.get(token.key)
      if (tests) tests.push(test)
      else any.set(token.key, [test])
    }
  }
  for (const tests of any.values()) every.push((container) => tests.some((test) => test(container)))
  return { tokens, idle: every.length === 0, matches: (container) => every.every((test) => test(container)) }
}

export type Segment = 'all' | 'running' | 'stopped'

function isSegmentToken(token: Token): boolean {
  return token.key === 'is' && !token.negated && (token.value === 'running' || token.value === 'stopped')
}

/** Which segment the tokens amount to; null when they say something else about states. */
export function segmentOf(tokens: readonly Token[]): Segment | null {
  const states = tokens.filter((token) => token.key === 'is')
  if (states.length === 0) return 'all'
  const [only] = states
  return states.length === 1 && only && isSegmentToken(only) ? (only.value as Segment) : null
}

/** The query with the segment's token in place of any other about states. */
export function withSegment(query: string, segment: Segment): string {
  let rest = ''
  let position = 0
  for (const token of tokenize(query)) {
    if (token.key !== 'is' || token.negated) continue
    rest += query.slice(position, token.start)
    position = token.end
  }
  rest = (rest + query.slice(position)).replace(/\s+/g, ' ').trim()
  const written = segment === 'all' ? '' : `is:${segment}`
  return [written, rest].filter((part) => part !== '').join(' ')
}
