import { call, subscribe, type Subscription } from '../transport'
import type { EngineRow, FrameBody, OperationKind, OperationRow, WorldPatch } from '../wire'
import { addressOf, Container, type ContainerAddress, type ContainerVerb } from './container.svelte'

const REOPEN_FIRST = 250
const REOPEN_LAST = 5_000
/** Above this many containers the list as a whole is rebuilt at most every `SLOW_LIST_MILLISECONDS`. */
const LARGE_WORLD = 2_000
const SLOW_LIST_MILLISECONDS = 120

export const VERB_OF_KIND: Readonly<Record<OperationKind, ContainerVerb | null>> = {
  containerStart: 'start',
  containerStop: 'stop',
  containerRestart: 'restart',
  containerPause: 'pause',
  containerUnpause: 'unpause',
  containerKill: 'kill',
  containerRemove: 'remove',
  engineStart: null,
  engineStop: null,
  engineGiveBack: null,
}

/** What Berth says there is. Rows live in plain maps; versions and cells tell components what changed. */
export class World {
  /** Counts up when containers came, went or changed in a way the list as a whole may show. */
  listVersion = $state(0)
  engines: EngineRow[] = $state.raw([])
  operations: OperationRow[] = $state.raw([])
  /** The first snapshot has arrived. */
  arrived = $state(false)
  readonly containers = new Map<ContainerAddress, Container>()
  revision: number | undefined = undefined

  readonly #engines = new Map<string, EngineRow>()
  readonly #operations = new Map<number, OperationRow>()
  #waiting: WorldPatch[] = []
  #scheduled = false
  #listTimer: ReturnType<typeof setTimeout> | undefined
  #listed = 0

  /** Takes a patch and commits it with the next frame. */
  receive(patch: WorldPatch): void {
    this.#waiting.push(patch)
    this.revision = patch.revision
    if (this.#scheduled) return
    this.#scheduled = true
    let done = false
    const commit = (): void => {
      if (done) return
      done = true
      this.commit()
    }
    requestAnimationFrame(commit)
    // A hidden page gets no animation frames.
    setTimeout(commit, 100)
  }

  /** Applies everything received since the last commit. */
  commit(): void {
    this.#scheduled = false
    const patches = this.#waiting
    if (patches.length === 0) return
    this.#waiting = []
    let list = false
    let engines = false
    let operations = false
    for (const patch of patches) {
      const changed = this.#apply(patch)
      list = changed.list || list
      engines = changed.engines || engines
      operations = changed.operations || operations
    }
    if (engines) this.engines = [...this.#engines.values()]
    if (operations) {
      this.operations = [...this.#operations.values()]
      this.#spreadOperations()
    }
    if (list) this.#announceList()
    this.arrived = true
  }

  engine(id: string): EngineRow | undefined {
    return this.engines.find((engine) => engine.id === id)
  }

  /** The engine the sidebar and the status bar speak of. */
  get primary(): EngineRow | undefined {
    return this.engines.find((engine) => engine.state === 'ready') ?? this.engines[0]
  }

  hasOperation(id: number): boolean {
    return this.#operations.has(id)
  }

  #apply(patch: WorldPatch): { list: boolean; engines: boolean; operations: boolean } {
    let list = patch.reset
    let engines = patch.reset
    let operations = patch.reset
    if (patch.reset) {
      this.#engines.clear()
      this.#operations.clear()
      // Cells outlive a snapshot, so that rows on the screen keep their place and their focus.
      const kept = new Set((patch.containers ?? []).map((row) => addressOf(row.engine, row.id)))
      for (const address of this.containers.keys()) if (!kept.has(address)) this.containers.delete(address)
    }
    for (const engine of patch.engines ?? []) {
      this.#engines.set(engine.id, engine)
      engines = true
    }
    for (const id of patch.enginesRemoved ?? []) engines = this.#engines.delete(id) || engines
    for (const row of patch.containers ?? []) {
      const address = addressOf(row.engine, row.id)
      const known = this.containers.get(address)
      if (known) known.replace(row)
      else this.containers.set(address, new Container(address, row))
      list = true
    }
    for (const key of patch.containersRemoved ?? []) {
      list = this.containers.delete(addressOf(key.engine, key.id)) || list
    }
    // New containers may have operations that were known before them.
    if (list && this.#operations.size > 0) operations = true
    for (const operation of patch.operations ?? []) {
      this.#operations.set(operation.id, operation)
      operations = true
    }
    for (const id of patch.operationsRemoved ?? []) operations = this.#operations.delete(id) || operations
    return { list, engines, operations }
  }

  #spreadOperations(): void {
    const latest = new Map<ContainerAddress, OperationRow>()
    for (const operation of this.operations) {
      if (operation.container === null) continue
      const address = addressOf(operation.engine, operation.container)
      const other = latest.get(address)
      if (!other || outranks(operation, other)) latest.set(address, operation)
    }
    for (const [address, container] of this.containers) {
      const operation = latest.get(address) ?? null
      const shown = operation?.phase === 'succeeded' ? null : operation
      if (container.operation !== shown) {
        container.operation = shown
      }
      const awaited = container.asked?.operation
      if (awaited !== null && awaited !== undefined && this.#operations.has(awaited)) container.asked = null
    }
  }

  #announceList(): void {
    const now = performance.now()
    const wait = this.containers.size > LARGE_WORLD ? SLOW_LIST_MILLISECONDS - (now - this.#listed) : 0
    if (wait <= 0) {
      this.#listed = now
      this.listVersion += 1
      return
    }
    if (this.#listTimer !== undefined) return
    this.#listTimer = setTimeout(() => {
      this.#listTimer = undefined
      this.#listed = performance.now()
      this.listVersion += 1
    }, wait)
  }
}

/** A running operation says more than an ended one, a later one more than an earlier one. */
function outranks(one: OperationRow, other: OperationRow): boolean {
  const running = Number(one.phase === 'running') - Number(other.phase === 'running')
  return running !== 0 ? running > 0 : one.id > other.id
}

export const world = new World()

/** Opens the world's stream, and again whenever it ends. */
export function followWorld(target: World): Subscription {
  let backoff = REOPEN_FIRST
  const again = (): void => {
    setTimeout(() => subscription.reopen(), backoff)
    backoff = Math.min(backoff * 2, REOPEN_LAST)
  }
  const subscription = subscribe({
    open: () => call('world_open', target.revision === undefined ? {} : { revision: target.revision }),
    frame(body: FrameBody) {
      if (body.kind === 'world') {
        backoff = REOPEN_FIRST
        target.receive(body.data)
      } else if (body.kind === 'end' || body.kind === 'failed') again()
    },
    refused: again,
  })
  return subscription
}
