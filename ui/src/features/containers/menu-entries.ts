import Copy from '@lucide/svelte/icons/copy'
import Info from '@lucide/svelte/icons/info'
import Pause from '@lucide/svelte/icons/pause'
import Play from '@lucide/svelte/icons/play'
import RotateCw from '@lucide/svelte/icons/rotate-cw'
import Square from '@lucide/svelte/icons/square'
import TextAlignStart from '@lucide/svelte/icons/text-align-start'
import Trash from '@lucide/svelte/icons/trash-2'
import Zap from '@lucide/svelte/icons/zap'
import { text } from '../../lang'
import type { MenuAction, MenuEntry } from '../../lib/ui/menu'
import type { Container, ContainerVerb } from '../../state/container.svelte'
import { applicable, copyAndSay, VERBS } from './actions'
import { page } from './page.svelte'

export const ICON_OF_VERB: Readonly<Record<ContainerVerb, NonNullable<MenuAction['icon']>>> = {
  start: Play,
  stop: Square,
  restart: RotateCw,
  pause: Pause,
  unpause: Play,
  kill: Zap,
  remove: Trash,
}

export const KEY_OF_VERB: Readonly<Partial<Record<ContainerVerb, string>>> = {
  start: 'S',
  stop: 'S',
  restart: 'R',
  pause: 'P',
  unpause: 'P',
  remove: 'Del',
}

function verbEntry(verb: ContainerVerb, containers: Container[]): MenuAction {
  const many = applicable(verb, containers)
  const name = text.containers.verb[verb]
  return {
    kind: 'action',
    label: containers.length > 1 && many.length > 0 ? text.containers.verbMany(name, many.length) : name,
    icon: ICON_OF_VERB[verb],
    key: KEY_OF_VERB[verb],
    disabled: many.length === 0,
    danger: verb === 'remove',
    run: () => page.run(verb, many),
  }
}

/** Everything one can do with these containers. */
export function menuEntries(containers: Container[]): MenuEntry[] {
  const [only] = containers
  if (!only) return []
  const lines = (read: (container: Container) => string): string => containers.map(read).join('\n')
  const copies: MenuEntry[] = [
    {
      kind: 'action',
      label: text.containers.copyId,
      icon: Copy,
      run: () =>
        void copyAndSay(
          lines((one) => one.row.id),
          text.containers.theId,
        ),
    },
    {
      kind: 'action',
      label: text.containers.copyName,
      icon: Copy,
      run: () =>
        void copyAndSay(
          lines((one) => one.row.name),
          text.containers.theName,
        ),
    },
    {
      kind: 'action',
      label: text.containers.copyImage,
      icon: Copy,
      run: () =>
        void copyAndSay(
          lines((one) => one.row.image),
          text.containers.theImage,
        ),
    },
  ]
  const openings: MenuEntry[] =
    containers.length === 1
      ? [
          {
            kind: 'action',
            label: text.containers.openDetails,
            icon: Info,
            key: 'I',
            run: () => page.open(only, 'overview'),
          },
          {
            kind: 'action',
            label: text.containers.logs,
            icon: TextAlignStart,
            key: 'L',
            run: () => page.open(only, 'logs'),
          },
          { kind: 'line' },
        ]
      : []
  const verbs = VERBS.filter((verb) => verb !== 'remove').map((verb) => verbEntry(verb, containers))
  return [...openings, ...verbs, { kind: 'line' }, ...copies, { kind: 'line' }, verbEntry('remove', containers)]
}
