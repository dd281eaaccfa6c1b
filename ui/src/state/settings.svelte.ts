import { call } from '../transport'
import type { Settings, Theme } from '../wire'

const SAVE_AFTER_MILLISECONDS = 400
const THEME_MEMORY = 'berth.theme'
const LAYOUT_LIMIT = 60_000

export type Timestamps = 'local' | 'utc' | 'off'

export interface Sorting {
  column: string
  descending: boolean
}

/** The page's own memory, kept as one JSON text in the settings. */
export interface Layout {
  columns: { widths: Record<string, number>; hidden: string[] }
  sorting: Sorting
  /** Names of collapsed groups; the empty name is the group of everything without a project. */
  collapsed: string[]
  logs: { timestamps: Timestamps; wrap: boolean }
}

const LAYOUT: Layout = {
  columns: { widths: {}, hidden: [] },
  sorting: { column: 'state', descending: false },
  collapsed: [],
  logs: { timestamps: 'local', wrap: false },
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function texts(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((item): item is string => typeof item === 'string') : []
}

function parsed(text: string | null): unknown {
  try {
    return text === null ? null : JSON.parse(text)
  } catch {
    return null
  }
}

/** Reads what an older, newer or broken page left, taking what makes sense. */
export function readLayout(text: string | null): Layout {
  const value = parsed(text)
  if (!isRecord(value)) return structuredClone(LAYOUT)
  const columns = isRecord(value.columns) ? value.columns : {}
  const sorting = isRecord(value.sorting) ? value.sorting : {}
  const logs = isRecord(value.logs) ? value.logs : {}
  const widths: Record<string, number> = {}
  for (const [name, width] of Object.entries(isRecord(columns.widths) ? columns.widths : {})) {
    if (typeof width === 'number' && width >= 40 && width <= 2_000) widths[name] = width
  }
  const timestamps = logs.timestamps
  return {
    columns: { widths, hidden: texts(columns.hidden) },
    sorting: {
      column: typeof sorting.column === 'string' ? sorting.column : LAYOUT.sorting.column,
      descending: sorting.descending === true,
    },
    collapsed: texts(value.collapsed),
    logs: {
      timestamps: timestamps === 'utc' || timestamps === 'off' ? timestamps : 'local',
      wrap: logs.wrap === true,
    },
  }
}

/** The user's settings: read once, written back a moment after they change. */
class SettingsState {
  theme: Theme = $state('system')
  sidebarCollapsed = $state(false)
  containersGrouped = $state(true)
  detailWidth: number | null = $state(null)
  layout: Layout = $state.raw(structuredClone(LAYOUT))
  loaded = $state(false)
  #systemDark = $state(true)
  #timer: ReturnType<typeof setTimeout> | undefined
  #dirty = false

  get dark(): boolean {
    return this.theme === 'dark' || (this.theme === 'system' && this.#systemDark)
  }

  /** Before anything else, so that the first paint has the right colours. */
  begin(): void {
    const query = matchMedia('(prefers-color-scheme: dark)')
    this.#systemDark = query.matches
    query.addEventListener('change', (event) => {
      this.#systemDark = event.matches
      this.#paint()
    })
    const remembered = localStorage.getItem(THEME_MEMORY)
    if (remembered === 'light' || remembered === 'dark') this.theme = remembered
    this.#paint()
    addEventListener('pagehide', () => this.flush())
  }

  async load(): Promise<void> {
    const settings = await call('settings_read', {})
    this.theme = settings.theme
    this.sidebarCollapsed = settings.sidebarCollapsed
    this.containersGrouped = settings.containersGrouped
    this.detailWidth = settings.detailWidth
    this.layout = readLayout(settings.layout)
    this.loaded = true
    this.#paint()
  }

  setTheme(theme: Theme): void {
    this.theme = theme
    this.#paint()
    this.#changed()
  }

  setSidebarCollapsed(collapsed: boolean): void {
    this.sidebarCollapsed = collapsed
    this.#changed()
  }

  setContainersGrouped(grouped: boolean): void {
    this.containersGrouped = grouped
    this.#changed()
  }

  setDetailWidth(width: number): void {
    this.detailWidth = width
    this.#changed()
  }

  setLayout(change: Partial<Layout>): void {
    this.layout = { ...this.layout, ...change }
    this.#changed()
  }

  /** Writes what has not been written yet. */
  flush(): void {
    clearTimeout(this.#timer)
    if (!this.#dirty) return
    this.#dirty = false
    const layout = JSON.stringify(this.layout)
    const settings: Settings = {
      theme: this.theme,
      sidebarCollapsed: this.sidebarCollapsed,
      containersGrouped: this.containersGrouped,
      detailWidth: this.detailWidth === null ? null : Math.round(this.detailWidth),
      layout: layout.length <= LAYOUT_LIMIT ? layout : null,
    }
    call('settings_write', { settings }).catch(() => {
      this.#dirty = true
    })
  }

  #changed(): void {
    // Before the settings are known, writing would overwrite them with the defaults.
    if (!this.loaded) return
    this.#dirty = true
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => this.flush(), SAVE_AFTER_MILLISECONDS)
  }

  #paint(): void {
    document.documentElement.dataset.theme = this.dark ? 'dark' : 'light'
    if (this.theme === 'system') localStorage.removeItem(THEME_MEMORY)
    else localStorage.setItem(THEME_MEMORY, this.theme)
  }
}

export const settings = new SettingsState()
