/**
 * A Berth that is not there, for `vite dev --mode mock` alone. The address chooses what it plays:
 * `?n=1000` more containers, `?engine=lost|stopped|failed|starting`, `?empty`, `?flood`, `?fail`.
 */
import type {
  ContainerDetail,
  ContainerKey,
  ContainerRow,
  EngineDetail,
  EngineRow,
  Frame,
  FrameBody,
  LogLine,
  OperationKind,
  OperationRow,
  RpcRequest,
  SessionPollReq,
  SessionPollRes,
  Settings,
  WorldPatch,
} from '../wire'
import { WIRE } from '../wire'
import { CallError } from './errors'
import { hashId, logLine, mockContainers, NOW } from './mock-world'
import type { Carrier } from './types'

const SETTINGS_MEMORY = 'berth.mock.settings'
const parameters = new URLSearchParams(location.search)

interface MockStream {
  sequence: number
  frames: Frame[]
  timer?: ReturnType<typeof setInterval>
}

export class MockCarrier implements Carrier {
  readonly host = 'browser'
  readonly #streams = new Map<number, MockStream>()
  readonly #containers = new Map<string, ContainerRow>()
  readonly #operations = new Map<number, OperationRow>()
  #engine: EngineRow
  #revision = 1
  #nextStream = 1
  #nextOperation = 1
  #world: number | null = null
  #wake: (() => void) | null = null

  constructor() {
    const state = parameters.get('engine') ?? 'ready'
    this.#engine = engineRow(state as EngineRow['state'])
    if (!parameters.has('empty') && state !== 'stopped' && state !== 'failed' && state !== 'starting') {
      for (const row of mockContainers(Number(parameters.get('n') ?? 0))) this.#containers.set(row.id, row)
    }
    Object.assign(window, { berthMock: this })
  }

  /** For tests in a browser: `berthMock.setEngine('lost')`. */
  setEngine(state: EngineRow['state']): void {
    this.#engine = { ...this.#engine, state, since: Date.now() }
    this.#patch({ engines: [this.#engine] })
  }

  async call(request: RpcRequest): Promise<unknown> {
    await pause(20)
    const payload = request.payload as { container: ContainerKey }
    switch (request.cmd) {
      case 'about':
        return { version: '0.1.0', wire: WIRE, host: 'browser' }
      case 'settings_read':
        return JSON.parse(sessionStorage.getItem(SETTINGS_MEMORY) ?? 'null') ?? defaults()
      case 'settings_write': {
        const { settings } = request.payload as { settings: Settings }
        sessionStorage.setItem(SETTINGS_MEMORY, JSON.stringify(settings))
        return settings
      }
      case 'world_open':
        return this.#openWorld()
      case 'logs_open':
        return this.#openLogs(payload.container)
      case 'stream_close': {
        const { stream } = request.payload as { stream: number }
        clearInterval(this.#streams.get(stream)?.timer)
        this.#streams.delete(stream)
        return {}
      }
      case 'container_inspect':
        return this.#inspect(payload.container)
      case 'operation_dismiss': {
        const { operation } = request.payload as { operation: number }
        this.#operations.delete(operation)
        this.#patch({ operationsRemoved: [operation] })
        return {}
      }
      case 'engine_inspect':
        return engineDetail()
      case 'engine_stop':
        this.setEngine('stopping')
        setTimeout(() => this.setEngine('stopped'), 1_500)
        return { operation: this.#nextOperation++ }
      case 'engine_give_back':
        return { operation: this.#nextOperation++ }
      case 'engine_start':
        this.setEngine('starting')
        setTimeout(() => {
          for (const row of mockContainers(0)) this.#containers.set(row.id, row)
          this.#engine = { ...this.#engine, error: null, listed: true }
          this.setEngine('ready')
          this.#patch({ containers: [...this.#containers.values()] })
        }, 1_500)
        return { operation: this.#nextOperation++ }
      default:
        return this.#operate(request.cmd, payload.container)
    }
  }

  async poll(request: SessionPollReq, abandon: AbortSignal): Promise<SessionPollRes> {
    for (const ack of request.acks) {
      const stream = this.#streams.get(ack.stream)
      if (stream) stream.frames = stream.frames.filter((frame) => frame.sequence > ack.sequence)
    }
    const unknown = request.acks.map((ack) => ack.stream).filter((stream) => !this.#streams.has(stream))
    if (unknown.length === 0 && this.#waiting().length === 0) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve
        setTimeout(resolve, request.waitMilliseconds)
        abandon.addEventListener('abort', () => resolve(), { once: true })
      })
    }
    await pause(4)
    return { frames: this.#waiting().slice(0, 8), unknown }
  }

  #waiting(): Frame[] {
    return [...this.#streams.values()].flatMap((stream) => stream.frames)
  }

  #send(id: number, body: FrameBody): void {
    const stream = this.#streams.get(id)
    if (!stream) return
    stream.sequence += 1
    stream.frames.push({ stream: id, sequence: stream.sequence, body: structuredClone(body) })
    this.#wake?.()
    this.#wake = null
  }

  #open(): number {
    const id = this.#nextStream++
    this.#streams.set(id, { sequence: 0, frames: [] })
    return id
  }

  #openWorld(): number {
    this.#world = this.#open()
    this.#patch({
      reset: true,
      engines: [this.#engine],
      containers: [...this.#containers.values()],
      operations: [...this.#operations.values()],
    })
    return this.#world
  }

  #patch(patch: Partial<WorldPatch>): void {
    this.#revision += 1
    if (this.#world !== null) {
      this.#send(this.#world, { kind: 'world', data: { reset: false, ...patch, revision: this.#revision } })
    }
  }

  #openLogs(key: ContainerKey): number {
    const row = this.#container(key)
    const id = this.#open()
    const lines: LogLine[] = []
    for (let index = 0; index < 300; index += 1) lines.push(logLine(index, NOW - (300 - index) * 431, row.name))
    this.#send(id, { kind: 'log', data: { lines } })
    if (row.state !== 'running') {
      this.#send(id, { kind: 'end' })
      return id
    }
    let next = 300
    const flood = parameters.has('flood')
    const stream = this.#streams.get(id)
    if (!stream) return id
    stream.timer = setInterval(
      () => {
        if (flood && stream.frames.length > 4) {
          // As Berth does: what cannot be taken is left out and counted.
          if (stream.frames.length > 12) return
          next += 1_204
          this.#send(id, { kind: 'gap', data: { lines: 1_204, bytes: 90_000, from: Date.now(), to: Date.now() } })
          return
        }
        const batch: LogLine[] = []
        for (let count = flood ? 1_000 : 1; count > 0; count -= 1) batch.push(logLine(next++, Date.now(), row.name))
        this.#send(id, { kind: 'log', data: { lines: batch } })
      },
      flood ? 10 : 700,
    )
    return id
  }

  #container(key: ContainerKey): ContainerRow {
    const row = this.#containers.get(key.id)
    if (!row) throw new CallError({ code: 'not_found', message: 'There is no such container.' })
    return row
  }

  #operate(command: string, key: ContainerKey): { operation: number } {
    const row = this.#container(key)
    const kinds: Record<string, [OperationKind, Partial<ContainerRow> | null]> = {
      container_start: ['containerStart', { state: 'running', started: Date.now(), exitCode: null, error: null }],
      container_stop: ['containerStop', { state: 'exited', exitCode: 0, finished: Date.now(), health: null }],
      container_restart: ['containerRestart', { state: 'running', started: Date.now() }],
      container_pause: ['containerPause', { state: 'paused' }],
      container_unpause: ['containerUnpause', { state: 'running' }],
      container_kill: ['containerKill', { state: 'exited', exitCode: 137, finished: Date.now(), health: null }],
      container_remove: ['containerRemove', null],
    }
    const found = kinds[command]
    if (!found) throw new CallError({ code: 'invalid', message: `No such command: ${command}` })
    const [kind, change] = found
    const operation: OperationRow = {
      id: this.#nextOperation++,
      engine: key.engine,
      container: key.id,
      target: row.name,
      kind,
      phase: 'running',
      started: Date.now(),
      finished: null,
      error: null,
      command: `docker ${command.slice(10)} ${row.name}`,
    }
    this.#operations.set(operation.id, operation)
    this.#patch({ operations: [operation] })
    setTimeout(() => this.#finish(operation, key, change), Number(parameters.get('slow') ?? 700))
    return { operation: operation.id }
  }

  #finish(operation: OperationRow, key: ContainerKey, change: Partial<ContainerRow> | null): void {
    const row = this.#containers.get(key.id)
    if (!row) return
    if (parameters.has('fail') && operation.kind !== 'containerKill') {
      const failed: OperationRow = {
        ...operation,
        phase: 'failed',
        finished: Date.now(),
        error:
          change === null
            ? { code: 'conflict', message: `${row.name} is running.`, hint: 'Kill it first.', operation: operation.id }
            : {
                code: 'engine',
                message: 'Port 5432 is taken by another process.',
                detail: 'bind: address already in use',
                hint: 'Free the port or publish another one.',
                operation: operation.id,
              },
      }
      this.#patch({ operations: [failed] })
      return
    }
    this.#patch({ operations: [{ ...operation, phase: 'succeeded', finished: Date.now() }] })
    if (change === null) {
      this.#containers.delete(key.id)
      this.#patch({ containersRemoved: [key] })
    } else {
      const next = { ...row, ...change }
      this.#containers.set(key.id, next)
      this.#patch({ containers: [next] })
    }
    setTimeout(() => this.#patch({ operationsRemoved: [operation.id] }), 300)
  }

  #inspect(key: ContainerKey): ContainerDetail {
    const row = this.#container(key)
    return {
      row,
      imageId: `sha256:${hashId(row.image)}`,
      command: row.command.split(' '),
      workingDirectory: '/app',
      user: 'node',
      hostname: row.id.slice(0, 12),
      restartPolicy: 'unless-stopped',
      tty: false,
      privileged: false,
      processId: row.state === 'running' ? 18_422 : null,
      environment: [
        { name: 'NODE_ENV', value: 'production' },
        { name: 'DATABASE_URL', value: 'postgres://shop:s3cret@db:5432/shop' },
        { name: 'STRIPE_KEY', value: 'sk_test_51H8xk2' },
        { name: '__proto__', value: '<b>not markup</b>' },
        { name: 'PATH', value: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' },
      ],
      mounts: [
        { kind: 'bind', source: '/home/sam/code/shop/api', destination: '/app', writable: true },
        { kind: 'volume', source: 'shop_uploads', destination: '/var/lib/uploads', writable: true },
        { kind: 'bind', source: '/etc/ssl/certs', destination: '/etc/ssl/certs', writable: false },
      ],
      networks: [
        { name: 'shop_default', address: '172.20.0.4', gateway: '172.20.0.1', aliases: ['api', 'shop-api-1'] },
      ],
      limits: { memoryBytes: 512 * 1024 * 1024, processors: 1.5, processes: null },
      healthLog:
        row.health === null
          ? []
          : [
              { started: NOW - 60_000, exitCode: 0, output: '{"status":"ok","uptime":11520}' },
              { started: NOW - 30_000, exitCode: row.health === 'unhealthy' ? 1 : 0, output: 'HTTP/1.1 200 OK' },
            ],
      exitExplained:
        row.exitCode === 137
          ? 'It was killed with SIGKILL. The kernel does this when memory runs out; `docker kill` and a stop that takes too long do it as well.'
          : null,
      runCommand: [
        {
          text: `docker run -d --name ${row.name} --restart unless-stopped -p 3000:3000 -e STRIPE_KEY=`,
          secret: false,
        },
        { text: 'sk_test_51H8xk2', secret: true },
        {
          text: ` -v /home/sam/code/shop/api:/app --memory 512m --cpus 1.5 ${row.image} ${row.command}`,
          secret: false,
        },
      ],
    }
  }
}

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds))
}

function defaults(): Settings {
  return { theme: 'system', sidebarCollapsed: false, containersGrouped: true, detailWidth: null, layout: null }
}

function engineRow(state: EngineRow['state']): EngineRow {
  const failed = state === 'failed'
  const stages = [
    { name: 'preparing', milliseconds: 212 },
    { name: 'booting', milliseconds: 1_840 },
    { name: 'connecting', milliseconds: state === 'starting' || failed ? null : 96 },
  ]
  return {
    id: 'bundled',
    name: 'Berth engine',
    kind: 'bundled',
    endpoint: 'unix:///run/user/1000/berth/docker.sock',
    state,
    since: state === 'lost' ? Date.now() - 12_000 : Date.now() - 9 * 86_400_000,
    error: failed
      ? {
          code: 'engine',
          message: 'The engine did not answer within 20 seconds.',
          detail: 'dockerd: failed to start daemon: error initializing graphdriver: driver not supported: overlay2',
          hint: 'Free space in the data folder, then start it again.',
        }
      : null,
    stages,
    version: '28.5.2',
    apiVersion: '1.51',
    platform: 'linux/amd64',
    processors: 8,
    memoryBytes: 6 * 1024 ** 3,
    warnings: [],
    listed: true,
  }
}

function engineDetail(): EngineDetail {
  const gib = 1024 ** 3
  return {
    backend: 'qemu',
    accelerator: { name: 'KVM', why: 'It ran a guest.' },
    dataFolder: '/home/mara/.local/share/berth',
    process: 4711,
    components: [
      { name: 'dockerd', version: '28.5.2' },
      { name: 'containerd', version: '2.1.9' },
    ],
    machine: {
      memoryTotalBytes: 4 * gib,
      memoryAvailableBytes: 2.6 * gib,
      memoryHostBytes: 1.7 * gib,
      diskTotalBytes: 64 * gib,
      diskFreeBytes: 51 * gib,
      diskHostBytes: 14 * gib,
    },
  }
}
