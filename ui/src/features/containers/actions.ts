import { copyText } from '../../platform'
import { text } from '../../lang'
import { visible } from '../../lib/format/visible'
import { toasts } from '../../lib/ui/toasts.svelte'
import { type Container, type ContainerVerb, isAlive } from '../../state/container.svelte'
import { world } from '../../state/world.svelte'
import { call, toWireError } from '../../transport'
import type { ContainerKey, OperationStarted } from '../../wire'

export const VERBS: readonly ContainerVerb[] = ['start', 'stop', 'restart', 'pause', 'unpause', 'kill', 'remove']

const CALLS_AT_ONCE = 8
/** How long a row keeps its spinner when the operation it asked for never shows up in the world. */
const AWAIT_MILLISECONDS = 2_000

export interface RemoveChoice {
  force: boolean
  volumes: boolean
}

/** What can be asked of a container as it stands. */
export function applies(verb: ContainerVerb, container: Container): boolean {
  if (container.busy) return false
  const { row } = container
  switch (verb) {
    case 'start':
      return row.state === 'created' || row.state === 'exited'
    case 'stop':
    case 'kill':
      return isAlive(row)
    case 'restart':
      return row.state === 'running' || row.state === 'restarting'
    case 'pause':
      return row.state === 'running'
    case 'unpause':
      return row.state === 'paused'
    case 'remove':
      return row.state !== 'removing'
  }
}

export function applicable(verb: ContainerVerb, containers: readonly Container[]): Container[] {
  return containers.filter((container) => applies(verb, container))
}

export function keyOf(container: Container): ContainerKey {
  return { engine: container.row.engine, id: container.row.id }
}

function ask(verb: ContainerVerb, container: Container, choice: RemoveChoice): Promise<OperationStarted> {
  const request = { container: keyOf(container) }
  switch (verb) {
    case 'start':
      return call('container_start', request)
    case 'stop':
      return call('container_stop', request)
    case 'restart':
      return call('container_restart', request)
    case 'pause':
      return call('container_pause', request)
    case 'unpause':
      return call('container_unpause', request)
    case 'kill':
      return call('container_kill', request)
    case 'remove':
      return call('container_remove', { ...request, ...choice })
  }
}

async function actOn(verb: ContainerVerb, container: Container, choice: RemoveChoice): Promise<void> {
  container.refusal = null
  container.asked = { verb, operation: null }
  const failed = container.operation
  if (failed?.phase === 'failed') dismissOperation(failed.id)
  try {
    const { operation } = await ask(verb, container, choice)
    if (world.hasOperation(operation)) {
      container.asked = null
      return
    }
    const asked = { verb, operation }
    container.asked = asked
    setTimeout(() => {
      if (container.asked === asked) container.asked = null
    }, AWAIT_MILLISECONDS)
  } catch (error) {
    const wire = toWireError(error)
    container.asked = null
    container.refusal = { error: wire, verb }
    toasts.complain(`${text.containers.failed[verb]}: ${visible(container.row.name)}`, wire.message)
  }
}

/** Asks for it on every container it applies to, a few at a time. */
export async function act(
  verb: ContainerVerb,
  containers: readonly Container[],
  choice: RemoveChoice = { force: false, volumes: false },
): Promise<void> {
  const queue = applicable(verb, containers)
  const worker = async (): Promise<void> => {
    for (let next = queue.shift(); next; next = queue.shift()) {
      // One that runs is only removed when the dialog has said that it will be killed.
      const force = choice.force && isAlive(next.row)
      await actOn(verb, next, { ...choice, force })
    }
  }
  await Promise.all(Array.from({ length: CALLS_AT_ONCE }, worker))
}

/** The way out of "it is still running". */
export function killAndRemove(container: Container): void {
  void actOn('remove', container, { force: true, volumes: false })
}

export function dismissOperation(operation: number): void {
  call('operation_dismiss', { operation }).catch((error: unknown) => {
    const { code, message } = toWireError(error)
    // Gone already is what was asked for.
    if (code !== 'not_found') toasts.complain(message)
  })
}

export function dismissFailure(container: Container): void {
  if (container.refusal) container.refusal = null
  else if (container.operation?.phase === 'failed') dismissOperation(container.operation.id)
}

/** Start or stop, whichever applies to the first of them. */
export function startOrStop(containers: readonly Container[]): ContainerVerb | null {
  if (applicable('stop', containers).length > 0) return 'stop'
  return applicable('start', containers).length > 0 ? 'start' : null
}

export function pauseOrUnpause(containers: readonly Container[]): ContainerVerb | null {
  if (applicable('pause', containers).length > 0) return 'pause'
  return applicable('unpause', containers).length > 0 ? 'unpause' : null
}

export async function copyAndSay(value: string, what: string): Promise<void> {
  if (await copyText(value)) toasts.say(text.copied(what))
  else toasts.complain(text.copyFailed)
}
