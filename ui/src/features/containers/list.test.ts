import { describe, expect, it } from 'vitest'
import { Container } from '../../state/container.svelte'
import { row } from '../../testing'
import type { ContainerRow } from '../../wire'
import { parseFilter } from './filter'
import { buildList, type ListRequest } from './list'

function make(name: string, change: Partial<ContainerRow> = {}): Container {
  return new Container(`bundled/${name}`, row({ id: name, name, ...change }))
}

function list(containers: Container[], change: Partial<ListRequest> = {}) {
  return buildList({
    containers,
    filter: parseFilter(''),
    sorting: { column: 'state', descending: false },
    grouped: false,
    collapsed: [],
    ...change,
  })
}

const names = (containers: Container[], change?: Partial<ListRequest>): string[] =>
  list(containers, change).items.map((item) => (item.kind === 'row' ? item.container.row.name : `[${item.name}]`))

describe('list', () => {
  const web10 = make('web-10')
  const web2 = make('web-2')
  const old = make('a-old', { state: 'exited' })
  const paused = make('b-paused', { state: 'paused' })

  it('puts what runs first and counts numbers as numbers', () => {
    expect(names([old, web10, paused, web2])).toEqual(['b-paused', 'web-2', 'web-10', 'a-old'])
  })

  it('gives the same order whatever order rows come in', () => {
    const twins = [make('x', { id: '2' }), make('x', { id: '1' })]
    expect(list(twins).order).toEqual(list([...twins].reverse()).order)
  })

  it('sorts by a column, both ways', () => {
    const port = (name: string, hostPort: number): Container =>
      make(name, { ports: [{ protocol: 'tcp', containerPort: 1, hostPort, hostAddress: null }] })
    const rows = [port('b', 9_000), make('none'), port('a', 80)]
    const sorting = { column: 'ports', descending: false }
    expect(names(rows, { sorting })).toEqual(['a', 'b', 'none'])
    expect(names(rows, { sorting: { ...sorting, descending: true } })).toEqual(['none', 'b', 'a'])
    expect(names(rows, { sorting: { column: 'no such column', descending: false } })).toEqual(['a', 'b', 'none'])
  })

  it('groups by project, counts the whole project and puts the rest last', () => {
    const rows = [
      make('api', { project: 'shop' }),
      make('db', { project: 'shop', state: 'exited' }),
      make('lone'),
      make('loki', { project: 'Alpha' }),
    ]
    const view = list(rows, { grouped: true, filter: parseFilter('is:running') })
    expect(
      view.items.map((item) =>
        item.kind === 'group' ? `${item.name} ${String(item.running)}/${String(item.total)}` : item.container.row.name,
      ),
    ).toEqual(['Alpha 1/1', 'loki', 'shop 1/2', 'api', ' 1/1', 'lone'])
    expect([view.matching, view.total, view.running]).toEqual([3, 4, 3])
  })

  it('keeps rows of a collapsed group out of the order that keys and selections go by', () => {
    const rows = [make('api', { project: 'shop' }), make('lone')]
    const view = list(rows, { grouped: true, collapsed: ['group:bundled/shop'] })
    expect(view.order).toEqual(['bundled/lone'])
    expect(view.matching).toBe(2)
  })

  it('treats a project called __proto__ like any other', () => {
    expect(names([make('a', { project: '__proto__' })], { grouped: true })).toEqual(['[__proto__]', 'a'])
  })

  it('lists ten thousand rows in a fraction of a frame budget times ten', () => {
    const rows = Array.from({ length: 10_000 }, (_, index) =>
      make(`service-${String(index)}`, { project: `p${String(index % 500)}` }),
    )
    list(rows, { grouped: true })
    const begun = performance.now()
    list(rows, { grouped: true, filter: parseFilter('service -image:x') })
    expect(performance.now() - begun).toBeLessThan(300)
  })
})
