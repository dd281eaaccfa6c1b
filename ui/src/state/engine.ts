import { toasts } from '../lib/ui/toasts.svelte'
import { call, toWireError } from '../transport'
import type { EngineRow } from '../wire'

export type EngineVerb = 'start' | 'stop' | 'giveBack'

/** Starts an engine (or wakes it), stops it, or has it give back what it does not use. Returns when that is under way; what hinders it is told. */
export async function actOnEngine(verb: EngineVerb, engine: EngineRow): Promise<void> {
  const request = { engine: engine.id }
  try {
    if (verb === 'start') await call('engine_start', request)
    else if (verb === 'stop') await call('engine_stop', request)
    else await call('engine_give_back', request)
  } catch (error) {
    toasts.complain(toWireError(error).message)
  }
}
