import type { Sorting } from '../../state/settings.svelte'
import { type Container, type ContainerAddress, isAlive, naturalKey } from '../../state/container.svelte'
import type { Filter } from './filter'

export const COLUMNS = ['state', 'name', 'image', 'status', 'ports', 'project', 'created'] as const
export type Column = (typeof COLUMNS)[number]

export const ROW_HEIGHT = 36
export const GROUP_HEIGHT = 32

export interface GroupItem {
  kind: 'group'
  key: string
  engine: string
  /** Empty for everything that is in no project. */
  name: string
  folder: string | null
  running: number
  total: number
  collapsed: boolean
  /** Every container of the project, whatever the filter shows. */
  members: Container[]
}

export interface RowItem {
  kind: 'row'
  key: ContainerAddress
  container: Container
}

export type ListItem = GroupItem | RowItem

export interface ListView {
  items: ListItem[]
  /** Addresses of the rows in the order shown. */
  order: ContainerAddress[]
  /** Where a key stands among the items. */
  index: Map<string, number>
  /** Rows the filter lets through, collapsed ones included. */
  matching: number
  total: number
  running: number
}

export interface ListRequest {
  containers: Iterable<Container>
  filter: Filter
  sorting: Sorting
  grouped: boolean
  collapsed: readonly string[]
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}

const STATE_RANK: Readonly<Record<string, number>> = {
  running: 0,
  restarting: 1,
  paused: 2,
  removing: 3,
  created: 4,
  exited: 5,
  dead: 6,
  unknown: 7,
}

type Comparison = (a: Container, b: Container) => number

const COMPARISONS: Readonly<Record<Column, Comparison>> = {
  state: (a, b) => Number(isAlive(b.row)) - Number(isAlive(a.row)),
  name: (a, b) => compareText(a.nameKey, b.nameKey),
  image: (a, b) => compareText(a.row.image, b.row.image),
  status: (a, b) =>
    (STATE_RANK[a.row.state] ?? 9) - (STATE_RANK[b.row.state] ?? 9) || statusMoment(b) - statusMoment(a),
  ports: (a, b) => firstPort(a) - firstPort(b),
  project: (a, b) => compareText(a.row.project ?? '\uffff', b.row.project ?? '\uffff'),
  created: (a, b) => b.row.created - a.row.created,
}

function statusMoment(container: Container): number {
  const { row } = container
  return (isAlive(row) ? row.started : row.finished) ?? row.created
}

function firstPort(container: Container): number {
  let first = Infinity
  for (const port of container.row.ports) if (port.hostPort !== null && port.hostPort < first) first = port.hostPort
  return first
}

export function isColumn(name: string): name is Column {
  return (COLUMNS as readonly string[]).includes(name)
}

/** Sorts by one column; what is equal there stands by name, then by id, so that the order never flickers. */
export function comparisonOf(sorting: Sorting): Comparison {
  const compare = COMPARISONS[isColumn(sorting.column) ? sorting.column : 'state']
  const direction = sorting.descending ? -1 : 1
  return (a, b) => {
    const by = compare(a, b)
    // Infinity minus Infinity is no number.
    if (by !== 0 && !Number.isNaN(by)) return by * direction
    return compareText(a.nameKey, b.nameKey) || compareText(a.row.id, b.row.id)
  }
}

export function groupKey(engine: string, name: string): string {
  return `group:${engine}/${name}`
}

/** Filters, sorts and groups. Pure: the page calls it again whenever the world or a choice changes. */
export function buildList(request: ListRequest): ListView {
  const shown: Container[] = []
  const groups = new Map<string, GroupItem>()
  let total = 0
  let running = 0
  for (const container of request.containers) {
    const { row } = container
    const alive = isAlive(row)
    total += 1
    if (alive) running += 1
    if (request.grouped) {
      const name = row.project ?? ''
      const key = groupKey(row.engine, name)
      let group = groups.get(key)
      if (!group) {
        group = {
          kind: 'group',
          key,
          engine: row.engine,
          name,
          folder: name === '' ? null : row.projectFolder,
          running: 0,
          total: 0,
          collapsed: request.collapsed.includes(key),
          members: [],
        }
        groups.set(key, group)
      }
      group.folder ??= name === '' ? null : row.projectFolder
      group.total += 1
      if (alive) group.running += 1
      group.members.push(container)
    }
    if (request.filter.idle || request.filter.matches(container)) shown.push(container)
  }
  shown.sort(comparisonOf(request.sorting))

  const items: ListItem[] = []
  if (request.grouped) {
    const rows = new Map<string, Container[]>()
    for (const container of shown) {
      const key = groupKey(container.row.engine, container.row.project ?? '')
      const list = rows.get(key)
      if (list) list.push(container)
      else rows.set(key, [container])
    }
    const ordered = [...groups.values()].sort(
      (a, b) =>
        Number(a.name === '') - Number(b.name === '') ||
        compareText(naturalKey(a.name), naturalKey(b.name)) ||
        compareText(a.engine, b.engine),
    )
    for (const group of ordered) {
      const members = rows.get(group.key)
      if (!members) continue
      items.push(group)
      if (!group.collapsed) for (const container of members) items.push(rowItem(container))
    }
  } else {
    for (const container of shown) items.push(rowItem(container))
  }

  const order: ContainerAddress[] = []
  const index = new Map<string, number>()
  items.forEach((item, position) => {
    index.set(item.key, position)
    if (item.kind === 'row') order.push(item.key)
  })
  return { items, order, index, matching: shown.length, total, running }
}

function rowItem(container: Container): RowItem {
  return { kind: 'row', key: container.address, container }
}

export function heightOf(item: ListItem): number {
  return item.kind === 'group' ? GROUP_HEIGHT : ROW_HEIGHT
}
