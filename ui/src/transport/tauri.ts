import { invoke } from '@tauri-apps/api/core'
import type { RpcRequest, SessionPollReq, SessionPollRes } from '../wire'
import { toCallError } from './errors'
import type { Carrier } from './types'

export function inDesktopWindow(): boolean {
  return '__TAURI_INTERNALS__' in window
}

export class TauriCarrier implements Carrier {
  readonly host = 'desktop'
  readonly #client: string

  constructor(client: string) {
    this.#client = client
  }

  async call(request: RpcRequest): Promise<unknown> {
    try {
      return await invoke<unknown>('rpc', { request })
    } catch (error) {
      throw toCallError(error)
    }
  }

  async poll(payload: SessionPollReq): Promise<SessionPollRes> {
    return (await this.call({ cmd: 'session_poll', payload, client: this.#client })) as SessionPollRes
  }
}
