import { MUTATING, type Rpc, type RpcRequest } from '../wire'
import { toCallError } from './errors'
import { exchangeToken, HttpCarrier } from './http'
import { Pump, type StreamSource, type Subscription } from './pump'
import { inDesktopWindow, TauriCarrier } from './tauri'
import type { Carrier, Connection } from './types'

export { CallError, toWireError } from './errors'
export type { StreamSource, Subscription } from './pump'
export type { Connection } from './types'

/** Minted once per page load: the page's streams live and die with it. */
const client = crypto.randomUUID()

let carrier: Carrier | null = null
let pump: Pump | null = null

function chosen(): Carrier {
  if (!carrier) throw new Error('connect() has not been called')
  return carrier
}

/** Finds out what shows the page and starts the pump. */
export async function connect(report: (connection: Connection) => void): Promise<void> {
  if (import.meta.env.MODE === 'mock') {
    const { MockCarrier } = await import('./mock')
    carrier = new MockCarrier()
  } else if (inDesktopWindow()) {
    carrier = new TauriCarrier(client)
  } else {
    await exchangeToken().catch(() => undefined)
    carrier = new HttpCarrier(client)
  }
  pump = new Pump({
    carrier,
    closeStream: (stream) => call('stream_close', { stream }),
    connection: report,
  })
}

export function startPump(): void {
  pump?.start()
}

export async function call<K extends keyof Rpc>(cmd: K, payload: Rpc[K][0]): Promise<Rpc[K][1]> {
  const request: RpcRequest = { cmd, payload, client }
  if (MUTATING.has(cmd)) request.requestId = crypto.randomUUID()
  try {
    return (await chosen().call(request)) as Rpc[K][1]
  } catch (error) {
    throw toCallError(error)
  }
}

export function subscribe(source: StreamSource): Subscription {
  if (!pump) throw new Error('connect() has not been called')
  return pump.subscribe(source)
}

export function shownBy(): Carrier['host'] {
  return chosen().host
}
