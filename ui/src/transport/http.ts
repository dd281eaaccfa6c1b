import type { RpcRequest, SessionPollReq, SessionPollRes } from '../wire'
import { CallError, toCallError } from './errors'
import type { Carrier } from './types'

const UNREACHABLE = 'Berth does not answer.'
const PAGE = 'berth.page'

/** The half of the session that no other port of this machine can read; the cookie alone is worth nothing. */
function pageSecret(): string {
  return sessionStorage.getItem(PAGE) ?? ''
}

/** Turns the token of a `berth serve` link into a session, and takes it out of the address. */
export async function exchangeToken(): Promise<void> {
  const found = /^#t=([^&/]+)/.exec(location.hash)
  if (!found?.[1]) return
  const token = decodeURIComponent(found[1])
  history.replaceState(null, '', location.pathname + location.search)
  const response = await fetch('./session', {
    method: 'POST',
    credentials: 'same-origin',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ token }),
  })
  if (!response.ok) return
  const { page } = (await response.json()) as { page?: unknown }
  if (typeof page === 'string') sessionStorage.setItem(PAGE, page)
}

interface PollAnswer {
  ok?: SessionPollRes
  error?: unknown
}

export class HttpCarrier implements Carrier {
  readonly host = 'browser'
  readonly #client: string
  #socket: WebSocket | null = null

  constructor(client: string) {
    this.#client = client
  }

  async call(request: RpcRequest): Promise<unknown> {
    let response: Response
    try {
      response = await fetch('./rpc', {
        method: 'POST',
        credentials: 'same-origin',
        headers: { 'Content-Type': 'application/json', 'X-Berth-Page': pageSecret() },
        body: JSON.stringify(request),
      })
    } catch {
      throw new CallError({ code: 'internal', message: UNREACHABLE })
    }
    if (response.ok) return (await response.json()) as unknown
    if (response.status === 401) throw new CallError({ code: 'unauthorized', message: 'This page is not signed in.' })
    const body: unknown = await response.json().catch(() => ({
      code: 'internal',
      message: `Berth answered with status ${String(response.status)}.`,
    }))
    throw toCallError(body)
  }

  async poll(payload: SessionPollReq, abandon: AbortSignal): Promise<SessionPollRes> {
    const socket = await this.#open(abandon)
    return await new Promise<SessionPollRes>((resolve, reject) => {
      const finish = (): void => {
        socket.removeEventListener('message', onMessage)
        socket.removeEventListener('close', onClose)
        abandon.removeEventListener('abort', onAbandon)
      }
      const onMessage = (event: MessageEvent): void => {
        finish()
        try {
          const answer = JSON.parse(String(event.data)) as PollAnswer
          if (answer.ok) resolve(answer.ok)
          else reject(toCallError(answer.error))
        } catch (error) {
          this.#drop()
          reject(toCallError(error))
        }
      }
      const onClose = (): void => {
        finish()
        this.#socket = null
        reject(new CallError({ code: 'internal', message: UNREACHABLE }))
      }
      // A late answer on this socket would be taken for the answer to the next poll.
      const onAbandon = (): void => {
        finish()
        this.#drop()
        reject(new CallError({ code: 'internal', message: UNREACHABLE }))
      }
      socket.addEventListener('message', onMessage)
      socket.addEventListener('close', onClose)
      abandon.addEventListener('abort', onAbandon)
      socket.send(JSON.stringify(payload))
    })
  }

  async #open(abandon: AbortSignal): Promise<WebSocket> {
    if (this.#socket?.readyState === WebSocket.OPEN) return this.#socket
    this.#drop()
    const address = new URL('./ws', location.href)
    address.protocol = address.protocol === 'https:' ? 'wss:' : 'ws:'
    address.hash = ''
    address.search = ''
    address.searchParams.set('client', this.#client)
    const socket = new WebSocket(address, ['berth', `page.${pageSecret()}`])
    const opened = await new Promise<boolean>((resolve) => {
      socket.addEventListener('open', () => resolve(true), { once: true })
      socket.addEventListener('close', () => resolve(false), { once: true })
      abandon.addEventListener('abort', () => resolve(false), { once: true })
    })
    if (opened) {
      this.#socket = socket
      return socket
    }
    socket.close()
    // A browser does not say why an upgrade was refused; a call does.
    await this.call({ cmd: 'about', payload: {}, client: this.#client })
    throw new CallError({ code: 'internal', message: UNREACHABLE })
  }

  #drop(): void {
    this.#socket?.close()
    this.#socket = null
  }
}
