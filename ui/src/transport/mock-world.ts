/** What the mock plays with: the containers of the design and as many more as are asked for. */
import type { ContainerRow, ContainerState, LogLine } from '../wire'

export const NOW = Date.now()
const HOUR = 3_600_000
const DAY = 24 * HOUR

/** 64 hexadecimal digits that are the same on every load. */
export function hashId(text: string): string {
  let state = 0x811c9dc5
  let id = ''
  for (let round = 0; id.length < 64; round += 1) {
    for (const character of `${String(round)}${text}`) {
      state = Math.imul(state ^ character.charCodeAt(0), 0x01000193) >>> 0
    }
    id += state.toString(16).padStart(8, '0')
  }
  return id.slice(0, 64)
}

function container(name: string, image: string, project: string | null, change: Partial<ContainerRow>): ContainerRow {
  const folders: Record<string, string> = { shop: '~/code/shop', observability: '~/code/infra/observability' }
  return {
    engine: 'bundled',
    id: hashId(`${project ?? ''}/${name}`),
    name,
    image,
    command: 'node server.js',
    state: 'running',
    status: 'Up 3 hours',
    health: null,
    exitCode: null,
    outOfMemory: false,
    error: null,
    restartCount: 0,
    created: NOW - 12 * DAY,
    started: NOW - 3 * HOUR - 12 * 60_000,
    finished: null,
    ports: [],
    project,
    service: project === null ? null : name,
    projectFolder: project === null ? null : (folders[project] ?? `~/code/${project}`),
    networks: [project === null ? 'bridge' : `${project}_default`],
    labels:
      project === null
        ? {}
        : { 'com.docker.compose.project': project, 'com.docker.compose.service': name, tier: 'web' },
    ...change,
  }
}

function published(port: number, inner = port): ContainerRow['ports'] {
  return [
    { protocol: 'tcp', containerPort: inner, hostPort: port, hostAddress: '0.0.0.0' },
    { protocol: 'tcp', containerPort: inner, hostPort: port, hostAddress: '::' },
  ]
}

export function mockContainers(more: number): ContainerRow[] {
  const healthy = { health: 'healthy' as const }
  const exited = (code: number, since: number): Partial<ContainerRow> => ({
    state: 'exited',
    exitCode: code,
    finished: NOW - since,
  })
  const rows = [
    container('web', 'shop/web:dev', 'shop', { ...healthy, ports: published(8080, 80) }),
    container('api', 'shop/api:dev', 'shop', { ...healthy, ports: published(3000) }),
    container('db', 'postgres:17', 'shop', { ...healthy, ports: published(5432) }),
    container('cache', 'redis:7-alpine', 'shop', { ports: published(6379) }),
    container('worker', 'shop/worker:dev', 'shop', {
      state: 'restarting',
      restartCount: 4,
      exitCode: 137,
      outOfMemory: true,
    }),
    container('mail', 'axllent/mailpit', 'shop', { ports: [...published(8025), ...published(1025)] }),
    container('migrate', 'shop/api:dev', 'shop', exited(0, 3 * HOUR)),
    container('grafana', 'grafana/grafana:12', 'observability', {
      started: NOW - 2 * DAY - HOUR,
      ports: published(3001),
    }),
    container('prometheus', 'prom/prometheus:v3', 'observability', {
      started: NOW - 2 * DAY - HOUR,
      ports: published(9090),
    }),
    container('loki', 'grafana/loki:3', 'observability', {
      started: NOW - 2 * DAY - HOUR,
      health: 'unhealthy',
      ports: published(3100),
    }),
    container('registry', 'registry:2', null, { started: NOW - 9 * DAY - HOUR, ports: published(5000) }),
    container('builder', 'moby/buildkit:latest', null, { state: 'paused', started: NOW - 12 * 60_000 }),
    container('old-postgres', 'postgres:16', null, exited(0, 8 * DAY)),
    container('scratch', 'debian:13', null, exited(130, DAY)),
    container('import', 'shop/import:3', null, { ...exited(137, 2 * HOUR), outOfMemory: true }),
    container('dns', 'coredns/coredns', null, {
      state: 'created',
      started: null,
      error: 'driver failed programming external connectivity: port 53 is already allocated',
    }),
    container('\u202Egnp.exe <img src=x>', 'evil/\u202Eimage:1', null, exited(1, 40 * DAY)),
  ]
  const states: ContainerState[] = ['running', 'running', 'running', 'exited', 'paused']
  for (let index = 0; index < more; index += 1) {
    const state = states[index % states.length] ?? 'running'
    const project = index % 4 === 0 ? null : `project-${String(Math.floor(index / 12))}`
    rows.push(
      container(`service-${String(index)}`, `example/service-${String(index % 37)}:1.${String(index % 9)}`, project, {
        state,
        started: NOW - (index % 700) * 61_000,
        exitCode: state === 'exited' ? index % 3 : null,
        finished: state === 'exited' ? NOW - (index % 90) * HOUR : null,
        ports: index % 3 === 0 ? published(20_000 + index) : [],
      }),
    )
  }
  return rows
}

const LINES = [
  'info GET /api/cart 200 \u001b[2m12 ms\u001b[0m',
  'info GET /api/products?page=2 200 \u001b[2m31 ms\u001b[0m',
  'debug cache hit products:2',
  'warn slow query \u001b[2m412 ms select * from orders where customer = $1 and state in ($2, $3) order by created desc limit 50\u001b[0m',
  'info POST /api/checkout 201 \u001b[2m88 ms\u001b[0m',
  'info order 10482 created',
  'error payment provider timed out \u001b[2mafter 3000 ms, attempt 1 of 3\u001b[0m',
  'info retry in 500 ms',
  'info payment accepted \u001b[2morder 10482\u001b[0m',
  'info GET /health 200 \u001b[2m1 ms\u001b[0m',
  '\u001b[32mlistening\u001b[0m on \u001b[1;36mhttp://0.0.0.0:3000\u001b[0m \u001b[38;5;208morange\u001b[0m \u001b]8;;http://evil.example\u0007a link\u001b]8;;\u0007',
  'debug cache miss user:771',
]

export function logLine(index: number, time: number, name: string): LogLine {
  const line = LINES[index % LINES.length] ?? ''
  const level = /^(info|debug|warn|error) /.exec(line)?.[1]
  const words = level === undefined ? line : `${level.toUpperCase()} ${line.slice(level.length + 1)}`
  return [time, level === 'error' ? 1 : 0, name === 'db' ? line : words]
}
