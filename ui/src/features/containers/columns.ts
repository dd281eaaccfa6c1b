import type { Layout } from '../../state/settings.svelte'
import { type Column, COLUMNS } from './list'

export interface ShownColumn {
  name: Column
  /** One track of `grid-template-columns`. */
  track: string
}

const TRACKS: Readonly<Record<Column, string>> = {
  state: '29px',
  name: 'minmax(90px, 1fr)',
  image: 'minmax(90px, 1fr)',
  status: 'minmax(150px, 1.7fr)',
  ports: 'minmax(78px, 0.6fr)',
  project: 'minmax(80px, 0.7fr)',
  created: '92px',
}

export const MINIMUM_WIDTH = 48
export const MAXIMUM_WIDTH = 900

/** State and name say which container it is; they always stay. */
export const ALWAYS_SHOWN: ReadonlySet<Column> = new Set<Column>(['state', 'name'])

export function canHide(column: Column, grouped: boolean): boolean {
  return !ALWAYS_SHOWN.has(column) && !(grouped && column === 'project')
}

export function shownColumns(layout: Layout['columns'], grouped: boolean): ShownColumn[] {
  return COLUMNS.filter(
    (name) => ALWAYS_SHOWN.has(name) || (!layout.hidden.includes(name) && !(grouped && name === 'project')),
  ).map((name) => {
    const width = Object.hasOwn(layout.widths, name) ? layout.widths[name] : undefined
    return { name, track: width === undefined ? TRACKS[name] : `${String(width)}px` }
  })
}

export function templateOf(columns: readonly ShownColumn[]): string {
  return columns.map((column) => column.track).join(' ')
}
