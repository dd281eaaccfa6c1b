import Box from '@lucide/svelte/icons/box'
import Copy from '@lucide/svelte/icons/copy'
import Info from '@lucide/svelte/icons/info'
import Keyboard from '@lucide/svelte/icons/keyboard'
import Layers from '@lucide/svelte/icons/layers'
import List from '@lucide/svelte/icons/list'
import Monitor from '@lucide/svelte/icons/monitor'
import Moon from '@lucide/svelte/icons/moon'
import Play from '@lucide/svelte/icons/play'
import Server from '@lucide/svelte/icons/server'
import Square from '@lucide/svelte/icons/square'
import Sun from '@lucide/svelte/icons/sun'
import TextAlignStart from '@lucide/svelte/icons/text-align-start'
import type { Component } from 'svelte'
import { applicable, copyAndSay, VERBS } from '../features/containers/actions'
import { ICON_OF_VERB, KEY_OF_VERB } from '../features/containers/menu-entries'
import { page } from '../features/containers/page.svelte'
import { text } from '../lang'
import type { Container } from '../state/container.svelte'
import { route } from '../state/route.svelte'
import { settings } from '../state/settings.svelte'
import { world } from '../state/world.svelte'
import { fuzzyScore } from './fuzzy'

export interface PaletteEntry {
  key: string
  label: string
  note: string
  shortcut?: string
  icon?: Component<{ size?: number | string; strokeWidth?: number | string }>
  container?: Container
  run: () => void
}

const SHOWN_AT_MOST = 40
const THEME_ICON = { system: Monitor, light: Sun, dark: Moon }

function commands(onkeyboardmap: () => void): PaletteEntry[] {
  const { targets } = page
  const [first] = targets
  const entries: PaletteEntry[] = []
  if (first) {
    const note = text.palette.onSelection(
      targets.length === 1 ? first.row.name : text.containers.selected(targets.length),
    )
    for (const verb of VERBS) {
      const many = applicable(verb, targets)
      if (many.length === 0) continue
      entries.push({
        key: `verb:${verb}`,
        label: text.containers.verb[verb],
        note,
        shortcut: KEY_OF_VERB[verb],
        icon: ICON_OF_VERB[verb],
        run: () => page.run(verb, many),
      })
    }
    if (targets.length === 1) {
      entries.push({
        key: 'logs',
        label: text.containers.logs,
        note,
        shortcut: 'L',
        icon: TextAlignStart,
        run: () => page.open(first, 'logs'),
      })
      entries.push({
        key: 'details',
        label: text.containers.openDetails,
        note,
        shortcut: 'I',
        icon: Info,
        run: () => page.open(first, 'overview'),
      })
      entries.push({
        key: 'copy-id',
        label: text.containers.copyId,
        note,
        icon: Copy,
        run: () => void copyAndSay(first.row.id, text.containers.theId),
      })
      entries.push({
        key: 'copy-name',
        label: text.containers.copyName,
        note,
        icon: Copy,
        run: () => void copyAndSay(first.row.name, text.containers.theName),
      })
      entries.push({
        key: 'copy-image',
        label: text.containers.copyImage,
        note,
        icon: Copy,
        run: () => void copyAndSay(first.row.image, text.containers.theImage),
      })
    }
  }
  for (const engine of world.engines) {
    entries.push({
      key: `engine:${engine.id}`,
      label: text.palette.engine(engine.name),
      note: text.engine.state[engine.state],
      icon: Server,
      run: () => route.openEngine(engine.id),
    })
  }
  entries.push(
    { key: 'all', label: text.palette.showAll, note: '', icon: Box, run: () => page.setSegment('all') },
    { key: 'running', label: text.palette.showRunning, note: '', icon: Play, run: () => page.setSegment('running') },
    { key: 'stopped', label: text.palette.showStopped, note: '', icon: Square, run: () => page.setSegment('stopped') },
    settings.containersGrouped
      ? { key: 'flat', label: text.palette.flat, note: '', icon: List, run: () => settings.setContainersGrouped(false) }
      : {
          key: 'group',
          label: text.palette.group,
          note: '',
          icon: Layers,
          run: () => settings.setContainersGrouped(true),
        },
    ...(['system', 'light', 'dark'] as const).map((theme) => ({
      key: `theme:${theme}`,
      label: `${text.nav.theme}: ${text.nav.themes[theme]}`,
      note: '',
      icon: THEME_ICON[theme],
      run: () => settings.setTheme(theme),
    })),
    { key: 'keys', label: text.nav.keyboardMap, note: '', shortcut: '?', icon: Keyboard, run: onkeyboardmap },
  )
  return entries
}

interface Scored {
  entry: PaletteEntry
  score: number
}

/** Commands first while nothing is typed; then whatever answers best. */
export function paletteEntries(query: string, onkeyboardmap: () => void): PaletteEntry[] {
  const trimmed = query.trim()
  const scored: Scored[] = []
  for (const entry of commands(onkeyboardmap)) {
    const score = fuzzyScore(trimmed, entry.label)
    if (score !== null) scored.push({ entry, score: trimmed === '' ? 1 : score })
  }
  for (const container of world.containers.values()) {
    const { name, project, image } = container.row
    const score =
      fuzzyScore(trimmed, name) ??
      (trimmed.length > 1 ? fuzzyScore(trimmed, `${project ?? ''} ${name} ${image}`) : null)
    if (score === null) continue
    const entry: PaletteEntry = {
      key: container.address,
      label: name,
      note: [project ?? '', image].filter((part) => part !== '').join(' · '),
      container,
      run: () => page.open(container),
    }
    scored.push({ entry, score: trimmed === '' ? 0 : score + 1 })
  }
  scored.sort((a, b) => b.score - a.score)
  return scored.slice(0, SHOWN_AT_MOST).map(({ entry }) => entry)
}
