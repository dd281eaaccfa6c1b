import type { Layout } from '../../state/settings.svelte'
import { type Column, COLUMNS } from './list'

export interface ShownColumn {
  name: Column
  /** One track of `grid-template-columns`. */
  track: string
}

const TRACKS: Readonly<Record<Column, string>> = {
  state: '29px',
  name: 'minmax(120px, 1.1fr)',
  image: 'minmax(90px, 1fr)',
  status: 'minmax(150px, 1.7fr)',
  ports: 'minmax(98px, 0.6fr)',
  project: 'minmax(80px, 0.7fr)',
  created: '92px',
}

/** What a column needs to say something. */
const NEEDED: Readonly<Record<Column, number>> = {
  state: 29,
  name: 130,
  image: 100,
  status: 160,
  ports: 98,
  project: 80,
  created: 92,
}

/** The order in which columns give way when the list is narrow. */
const GIVES_WAY: readonly Column[] = ['created', 'project', 'image', 'ports']

const ROW_SIDES = 24

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
    // A width that was chosen on a wide list gives in on a narrow one.
    const least = String(Math.min(width ?? 0, NEEDED[name]))
    return { name, track: width === undefined ? TRACKS[name] : `minmax(${least}px, ${String(width)}px)` }
  })
}

/** Leaves out what there is no room for, so that name and status stay readable. */
export function fittingColumns(columns: readonly ShownColumn[], width: number): ShownColumn[] {
  const shown = [...columns]
  // Before the list was measured there is nothing to fit into.
  if (width === 0) return shown
  for (const name of GIVES_WAY) {
    const needed = shown.reduce((sum, column) => sum + NEEDED[column.name], ROW_SIDES)
    if (needed <= width) break
    const at = shown.findIndex((column) => column.name === name)
    if (at >= 0) shown.splice(at, 1)
  }
  return shown
}

export function templateOf(columns: readonly ShownColumn[]): string {
  return columns.map((column) => column.track).join(' ')
}
