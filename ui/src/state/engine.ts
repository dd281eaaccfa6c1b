import { toasts } from '../../lib/ui/toasts.svelte'
import { call, toWireError } from '../../transport'
import type { EngineRow } from '../../wire'

/** Starts an engine, or wakes it. Returns when that is under way; what hinders it is told. */
export async function startEngine(engine: EngineRow): Promise<void> {
  try {
    await call('engine_start', { engine: engine.id })
  } catch (error) {
    toasts.complain(toWireError(error).message)
  }
}
