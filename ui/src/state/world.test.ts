import { beforeEach, describe, expect, it } from 'vitest'
import { row } from '../testing'
import type { EngineRow, OperationRow, WorldPatch } from '../wire'
import { readAddress, writeAddress } from './address'
import { readLayout } from './settings.svelte'
import { World } from './world.svelte'

const engine: EngineRow = {
  id: 'bundled',
  name: 'Berth engine',
  kind: 'bundled',
  endpoint: 'unix:///x',
  state: 'ready',
  since: 0,
  error: null,
  stages: [],
  version: null,
  apiVersion: null,
  platform: null,
  processors: null,
  memoryBytes: null,
  warnings: [],
  listed: true,
}

function operation(id: number, change: Partial<OperationRow> = {}): OperationRow {
  return {
    id,
    engine: 'bundled',
    container: 'one',
    target: 'web',
    kind: 'containerStop',
    phase: 'running',
    started: 0,
    finished: null,
    error: null,
    command: '',
    ...change,
  }
}

let world: World
let revision: number

function apply(patch: Partial<WorldPatch>): void {
  world.receive({ revision: ++revision, reset: false, ...patch })
  world.commit()
}

beforeEach(() => {
  globalThis.requestAnimationFrame = () => 0
  world = new World()
  revision = 0
  apply({ reset: true, engines: [engine], containers: [row({ id: 'one' }), row({ id: 'two' })] })
})

describe('world', () => {
  it('takes a snapshot and remembers its revision', () => {
    expect([...world.containers.keys()]).toEqual(['bundled/one', 'bundled/two'])
    expect(world.revision).toBe(1)
    expect(world.arrived).toBe(true)
  })

  it('changes one row and leaves the cell where it is', () => {
    const cell = world.containers.get('bundled/one')
    const other = world.containers.get('bundled/two')?.row
    const before = world.listVersion
    apply({ containers: [row({ id: 'one', state: 'exited' })] })
    expect(world.containers.get('bundled/one')).toBe(cell)
    expect(cell?.row.state).toBe('exited')
    expect(world.containers.get('bundled/two')?.row).toBe(other)
    expect(world.listVersion).toBe(before + 1)
  })

  it('removes rows and engines', () => {
    apply({ containersRemoved: [{ engine: 'bundled', id: 'one' }], enginesRemoved: ['bundled'] })
    expect([...world.containers.keys()]).toEqual(['bundled/two'])
    expect(world.engines).toEqual([])
  })

  it('forgets everything on a reset, but keeps the cells of what is still there', () => {
    const cell = world.containers.get('bundled/two')
    apply({ operations: [operation(1)] })
    apply({ reset: true, engines: [engine], containers: [row({ id: 'two' }), row({ id: 'three' })] })
    expect([...world.containers.keys()].sort()).toEqual(['bundled/three', 'bundled/two'])
    expect(world.containers.get('bundled/two')).toBe(cell)
    expect(world.operations).toEqual([])
  })

  it('applies several patches in one commit, in order', () => {
    world.receive({ revision: 2, reset: false, containers: [row({ id: 'four' })] })
    world.receive({ revision: 3, reset: false, containersRemoved: [{ engine: 'bundled', id: 'four' }] })
    world.commit()
    expect(world.containers.has('bundled/four')).toBe(false)
    expect(world.revision).toBe(3)
  })

  it('announces the list only when containers changed', () => {
    const before = world.listVersion
    apply({ engines: [{ ...engine, state: 'lost' }] })
    apply({ operations: [operation(1)] })
    expect(world.listVersion).toBe(before)
    expect(world.primary?.state).toBe('lost')
  })

  it('shows on a row what runs, then what failed, and nothing that succeeded', () => {
    const cell = world.containers.get('bundled/one')
    apply({ operations: [operation(1)] })
    expect(cell?.operation?.id).toBe(1)
    expect(cell?.busy).toBe(true)
    apply({ operations: [operation(1, { phase: 'failed' }), operation(2)] })
    expect(cell?.operation?.id).toBe(2)
    apply({ operations: [operation(2, { phase: 'failed' })] })
    expect(cell?.operation?.phase).toBe('failed')
    apply({ operations: [operation(3, { phase: 'succeeded' })] })
    expect(cell?.operation).toBeNull()
    apply({ operationsRemoved: [1, 2, 3] })
    expect(cell?.operation).toBeNull()
  })

  it('takes the spinner of an asked row over into its operation', () => {
    const cell = world.containers.get('bundled/one')
    if (!cell) throw new Error('no cell')
    cell.asked = { verb: 'stop', operation: 9 }
    apply({ operations: [operation(1, { phase: 'failed' })] })
    expect(cell.asked, 'an older operation says nothing').not.toBeNull()
    apply({ operations: [operation(9)] })
    expect(cell.asked).toBeNull()
    expect(cell.busy).toBe(true)
  })
})

describe('address', () => {
  it('reads what it wrote', () => {
    const place = {
      page: 'containers' as const,
      engine: null,
      detail: { engine: 'a b/c', id: 'x', tab: 'logs' as const },
      wide: true,
      filter: 'is:running label:"a&b=c" #?/',
    }
    expect(readAddress(writeAddress(place))).toEqual(place)
  })

  it('takes anything for the list', () => {
    for (const hash of ['', '#', '#/', '#/nowhere/at/all', '#/containers/%E0%A4%A', '#t=token']) {
      expect(readAddress(hash).detail).toBeNull()
    }
  })
})

describe('layout', () => {
  it('takes what makes sense of anything', () => {
    for (const text of [null, '', '{', '[]', '7', '{"columns":[],"sorting":3,"collapsed":{},"logs":"x"}']) {
      expect(readLayout(text)).toEqual(readLayout(null))
    }
    const layout = readLayout(
      '{"columns":{"widths":{"name":200,"image":-4,"__proto__":90},"hidden":["ports",4]},"logs":{"wrap":true,"timestamps":"utc"}}',
    )
    expect(layout.columns.widths.name).toBe(200)
    expect(Object.hasOwn(layout.columns.widths, 'image')).toBe(false)
    expect(layout.columns.hidden).toEqual(['ports'])
    expect(layout.logs).toEqual({ wrap: true, timestamps: 'utc' })
  })
})
