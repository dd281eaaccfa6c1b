import { text } from '../../lang'
import { visible } from '../../lib/format/visible'
import type { Container, ContainerVerb } from '../../state/container.svelte'
import { VERB_OF_KIND } from '../../state/world.svelte'
import type { WireError } from '../../wire'

export interface Failure {
  verb: ContainerVerb
  error: WireError
  /** What happened, said once. */
  title: string
}

/** What went wrong with it last, until it is dismissed or tried again. */
export function failureOf(container: Container): Failure | null {
  if (container.busy) return null
  if (container.refusal) {
    const { error, verb } = container.refusal
    // A refused call says why, but not what was asked for.
    return { verb, error, title: `${text.containers.failed[verb]}: ${error.message}` }
  }
  const { operation } = container
  const verb = operation?.phase === 'failed' ? VERB_OF_KIND[operation.kind] : null
  return operation?.error && verb ? { verb, error: operation.error, title: operation.error.message } : null
}

const REASON_CHARACTERS = 60

/** Engines wrap an error in what every layer was doing; what went wrong stands last. */
function reasonOf(detail: string): string {
  const layers = detail.trim().split(': ')
  let reason = layers.pop() ?? ''
  for (let layer = layers.pop(); layer !== undefined; layer = layers.pop()) {
    const longer = `${layer}: ${reason}`
    if (longer.length > REASON_CHARACTERS) return `… ${reason}`
    reason = longer
  }
  return reason
}

/** The failure on one line: what happened and, where it is known, why. */
export function failureLine({ title, error }: Failure): string {
  const reason = reasonOf(error.detail ?? '')
  return visible(reason === '' ? title : `${title}: ${reason}`)
}
