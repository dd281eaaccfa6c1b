import type { Code, WireError } from '../wire'

const CODES: ReadonlySet<string> = new Set<Code>([
  'invalid',
  'not_found',
  'conflict',
  'engine_unreachable',
  'engine_permission',
  'engine',
  'unauthorized',
  'internal',
])

/** What a call rejects with, whatever went wrong on the way. */
export class CallError extends Error {
  readonly wire: WireError

  constructor(wire: WireError) {
    super(wire.message)
    this.name = 'CallError'
    this.wire = wire
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null
}

function optionalText(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined
}

/** Reads a wire error out of anything; what is none becomes an `internal` one. */
export function toWireError(value: unknown): WireError {
  if (value instanceof CallError) return value.wire
  if (isRecord(value) && typeof value.code === 'string' && typeof value.message === 'string') {
    return {
      code: CODES.has(value.code) ? (value.code as Code) : 'internal',
      message: value.message,
      detail: optionalText(value.detail),
      hint: optionalText(value.hint),
      operation: typeof value.operation === 'number' ? value.operation : undefined,
    }
  }
  if (value instanceof Error) return { code: 'internal', message: value.message }
  return { code: 'internal', message: typeof value === 'string' ? value : 'Berth gave an answer that makes no sense.' }
}

export function toCallError(value: unknown): CallError {
  return value instanceof CallError ? value : new CallError(toWireError(value))
}
