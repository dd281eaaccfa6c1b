/** Rows for tests. */
import { haystackOf, naturalKey } from './state/container.svelte'
import type { ContainerRow } from './wire'

export function row(change: Partial<ContainerRow> = {}): ContainerRow {
  return {
    engine: 'bundled',
    id: 'a'.repeat(64),
    name: 'web',
    image: 'shop/web:dev',
    command: 'serve',
    state: 'running',
    status: 'Up 3 hours',
    health: null,
    exitCode: null,
    outOfMemory: false,
    error: null,
    restartCount: 0,
    created: 0,
    started: 0,
    finished: null,
    ports: [],
    project: null,
    service: null,
    projectFolder: null,
    networks: [],
    labels: {},
    ...change,
  }
}

export function matchable(change: Partial<ContainerRow> = {}): {
  row: ContainerRow
  haystack: string
  nameKey: string
} {
  const made = row(change)
  return { row: made, haystack: haystackOf(made), nameKey: naturalKey(made.name) }
}
