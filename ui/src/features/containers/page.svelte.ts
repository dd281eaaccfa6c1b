import { untrack } from 'svelte'
import { type Container, type ContainerVerb } from '../../state/container.svelte'
import { route } from '../../state/route.svelte'
import { selection } from '../../state/selection.svelte'
import { settings } from '../../state/settings.svelte'
import { world } from '../../state/world.svelte'
import type { DetailTab } from '../../state/address'
import { act } from './actions'
import { parseFilter, type Segment, withSegment } from './filter'
import { buildList, type GroupItem, type ListItem, type ListView } from './list'

export interface MenuRequest {
  containers: Container[]
  /** Where it opens, in the window's coordinates. */
  x: number
  y: number
}

/** What the containers page knows beyond the world: its list, its menu and its dialog. */
class ContainersPage {
  menu: MenuRequest | null = $state.raw(null)
  /** Containers the delete dialog asks about. */
  removing: Container[] | null = $state.raw(null)

  readonly filter = $derived(parseFilter(route.place.filter))

  readonly view: ListView = $derived.by(() => {
    // The only dependency on the world: rows are read as they are, without a signal for each of them.
    void world.listVersion
    const request = {
      containers: world.containers.values(),
      filter: this.filter,
      sorting: settings.layout.sorting,
      grouped: settings.containersGrouped,
      collapsed: settings.layout.collapsed,
    }
    return buildUntracked(request)
  })

  /** Selected containers that still exist. */
  readonly selected: Container[] = $derived.by(() => {
    void world.listVersion
    return [...selection.chosen].flatMap((address) => world.containers.get(address) ?? [])
  })

  /** What the keys act on: the selection, or the row under the cursor, or the open detail. */
  get targets(): Container[] {
    if (this.selected.length > 0) return this.selected
    const address = selection.cursor ?? route.detailAddress
    const container = address === null ? undefined : world.containers.get(address)
    return container ? [container] : []
  }

  get cursorItem(): ListItem | undefined {
    const position = selection.cursor === null ? undefined : this.view.index.get(selection.cursor)
    return position === undefined ? undefined : this.view.items[position]
  }

  setSegment(segment: Segment): void {
    route.setFilter(withSegment(route.place.filter, segment))
  }

  select(container: Container, how: 'only' | 'toggle' | 'extend'): void {
    if (how === 'toggle') selection.toggle(container.address)
    else if (how === 'extend') selection.extend(container.address, this.view.order)
    else selection.only(container.address)
    if (how !== 'only') route.followDetail(container.row)
  }

  /** Moves the cursor by rows; with `extend` the selection grows along. */
  move(to: number, extend: boolean): void {
    const { items } = this.view
    if (items.length === 0) return
    const item = items[Math.max(0, Math.min(items.length - 1, to))]
    if (!item) return
    if (item.kind === 'group') {
      selection.moveTo(item.key)
      return
    }
    this.select(item.container, extend ? 'extend' : 'only')
    if (!extend) route.followDetail(item.container.row)
  }

  cursorPosition(): number {
    return selection.cursor === null ? -1 : (this.view.index.get(selection.cursor) ?? -1)
  }

  open(container: Container, tab?: DetailTab, wide?: boolean): void {
    if (!selection.chosen.has(container.address)) selection.only(container.address)
    selection.moveTo(container.address)
    route.openDetail(container.row, tab, wide)
  }

  setCollapsed(group: GroupItem, collapsed: boolean): void {
    const others = settings.layout.collapsed.filter((key) => key !== group.key)
    settings.setLayout({ collapsed: collapsed ? [...others, group.key] : others })
  }

  run(verb: ContainerVerb, containers: Container[]): void {
    if (containers.length === 0) return
    if (verb === 'remove') this.removing = containers
    else void act(verb, containers)
  }
}

function buildUntracked(request: Parameters<typeof buildList>[0]): ListView {
  return untrack(() => buildList(request))
}

export const page = new ContainersPage()
