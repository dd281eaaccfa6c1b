import type { ContainerRow, OperationRow, WireError } from '../wire'

export type ContainerVerb = 'start' | 'stop' | 'restart' | 'pause' | 'unpause' | 'kill' | 'remove'

export type ContainerAddress = string

/** One text for an engine and an id, to key maps and selections with. */
export function addressOf(engine: string, id: string): ContainerAddress {
  return `${engine}/${id}`
}

const ALIVE: ReadonlySet<string> = new Set(['running', 'paused', 'restarting'])

/** It has a process: running, paused or being restarted. */
export function isAlive(row: ContainerRow): boolean {
  return ALIVE.has(row.state)
}

/** One container. Each field is a cell of its own, so a patch re-renders one row and nothing else. */
export class Container {
  readonly address: ContainerAddress
  row: ContainerRow = $state.raw() as ContainerRow
  /** The newest operation on it that runs or failed. */
  operation: OperationRow | null = $state.raw(null)
  /** Asked for, and not yet seen as an operation. */
  asked: { verb: ContainerVerb; operation: number | null } | null = $state.raw(null)
  /** A call that was refused before it became an operation. */
  refusal: { error: WireError; verb: ContainerVerb } | null = $state.raw(null)
  #haystack: string | null = null
  #nameKey: string | null = null

  constructor(address: ContainerAddress, row: ContainerRow) {
    this.address = address
    this.row = row
  }

  replace(row: ContainerRow): void {
    this.row = row
    this.#haystack = null
    this.#nameKey = null
  }

  /** What free text is looked for in, in lower case. */
  get haystack(): string {
    this.#haystack ??= haystackOf(this.row)
    return this.#haystack
  }

  /** Sorts `web-2` before `web-10` with a plain comparison. */
  get nameKey(): string {
    this.#nameKey ??= naturalKey(this.row.name)
    return this.#nameKey
  }

  get busy(): boolean {
    return this.asked !== null || this.operation?.phase === 'running'
  }
}

export function haystackOf(row: ContainerRow): string {
  const ports = row.ports.map((port) => `${String(port.hostPort ?? '')}:${String(port.containerPort)}`)
  return [row.name, row.image, row.id, row.project ?? '', row.service ?? '', ...ports].join('\n').toLowerCase()
}

export function naturalKey(name: string): string {
  return name.toLowerCase().replace(/\d+/g, (digits) => digits.padStart(10, '0'))
}
