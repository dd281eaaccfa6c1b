import type { Host, RpcRequest, SessionPollReq, SessionPollRes } from '../wire'

/** Carries calls and polls to Berth. The only difference between the desktop window and a browser. */
export interface Carrier {
  readonly host: Host
  /** Resolves to the response or rejects with a `CallError`. */
  call(request: RpcRequest): Promise<unknown>
  /** One at a time. After `abandon` fires the answer is not wanted any more, whenever it comes. */
  poll(request: SessionPollReq, abandon: AbortSignal): Promise<SessionPollRes>
}

/** How the page stands with Berth itself, not with an engine. */
export type Connection = 'connecting' | 'connected' | 'reconnecting' | 'unauthorized'
