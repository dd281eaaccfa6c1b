import { isTyping, overlayOpen } from '../../lib/ui/overlays'
import type { ContainerVerb } from '../../state/container.svelte'
import { route } from '../../state/route.svelte'
import { selection } from '../../state/selection.svelte'
import { applicable, pauseOrUnpause, startOrStop } from './actions'
import { page } from './page.svelte'

export interface KeyboardPlace {
  wide: boolean
  pageRows(): number
  reveal(): void
  menuPoint(): { x: number; y: number }
  focusList(): void
}

function inDetail(target: EventTarget | null): boolean {
  return target instanceof Element && target.closest('[data-testid=detail]') !== null
}

/** Enter and Space belong to the button that has the focus. */
function onControl(target: EventTarget | null): boolean {
  return target instanceof Element && target.closest('button, a, [role=tab], [role=separator]') !== null
}

function runVerb(verb: ContainerVerb | null): void {
  if (verb) page.run(verb, applicable(verb, page.targets))
}

/** Keys of the containers page. True effects live in the page; this only reads the keyboard. */
export function containerKeys(event: KeyboardEvent, place: KeyboardPlace): void {
  if (event.defaultPrevented || overlayOpen() || isTyping(event.target)) return
  const handled =
    commandKey(event) || verbKey(event, place) || (!inDetail(event.target) && !place.wide && listKey(event, place))
  if (handled) event.preventDefault()
}

function commandKey(event: KeyboardEvent): boolean {
  if (!(event.ctrlKey || event.metaKey) || event.altKey) return false
  const key = event.key.toLowerCase()
  if (key === 'a' && !inDetail(event.target)) {
    selection.all(page.view.order)
    return true
  }
  if (key === 'f') {
    const field = document.querySelector<HTMLInputElement>('[data-log-search]')
    field?.focus()
    field?.select()
    return field !== null
  }
  return false
}

function verbKey(event: KeyboardEvent, place: KeyboardPlace): boolean {
  if (event.ctrlKey || event.metaKey || event.altKey) return false
  if (event.key === 'Escape') return escape(place)
  if (event.key === 'F10' && event.shiftKey) return openMenu(place)
  if (event.key === 'ContextMenu') return openMenu(place)
  if (event.key === 'Delete') {
    page.run('remove', applicable('remove', page.targets))
    return true
  }
  if (event.shiftKey || event.repeat) return false
  const { targets } = page
  const [first] = targets
  if (!first) return false
  switch (event.key.toLowerCase()) {
    case 's':
      runVerb(startOrStop(targets))
      return true
    case 'r':
      runVerb('restart')
      return true
    case 'p':
      runVerb(pauseOrUnpause(targets))
      return true
    case 'l':
      page.open(first, 'logs')
      return true
    case 'i':
      page.open(first, 'overview')
      return true
    default:
      return false
  }
}

function escape(place: KeyboardPlace): boolean {
  if (route.place.detail) {
    route.closeDetail()
    // The list may only now be there to take the focus.
    requestAnimationFrame(() => {
      place.focusList()
      place.reveal()
    })
  } else if (selection.chosen.size > 0) selection.clear()
  else return false
  return true
}

function openMenu(place: KeyboardPlace): boolean {
  const { targets } = page
  if (targets.length === 0) return false
  page.menu = { containers: targets, ...place.menuPoint() }
  return true
}

function listKey(event: KeyboardEvent, place: KeyboardPlace): boolean {
  if (event.ctrlKey || event.metaKey || event.altKey) return false
  const at = page.cursorPosition()
  const go = (to: number): boolean => {
    page.move(to, event.shiftKey)
    place.focusList()
    place.reveal()
    return true
  }
  switch (event.key) {
    case 'ArrowDown':
    case 'j':
      return go(at + 1)
    case 'ArrowUp':
    case 'k':
      return go(at < 0 ? 0 : at - 1)
    case 'Home':
      return go(0)
    case 'End':
      return go(page.view.items.length - 1)
    case 'PageDown':
      return go(at + place.pageRows())
    case 'PageUp':
      return go(at - place.pageRows())
    case 'a':
      selection.all(page.view.order)
      return true
    default:
      return onControl(event.target) ? false : cursorKey(event)
  }
}

function cursorKey(event: KeyboardEvent): boolean {
  const item = page.cursorItem
  if (!item) {
    // The open container may be one the filter hides.
    if (event.key !== 'Enter' || !route.place.detail) return false
    route.setWide(true)
    return true
  }
  if (item.kind === 'group') {
    const wanted = { ArrowLeft: true, ArrowRight: false, Enter: !item.collapsed, ' ': !item.collapsed }[event.key]
    if (wanted === undefined) return false
    page.setCollapsed(item, wanted)
    return true
  }
  if (event.key === ' ') {
    page.select(item.container, 'toggle')
    return true
  }
  if (event.key === 'Enter') {
    page.open(item.container, undefined, true)
    requestAnimationFrame(() =>
      document.querySelector<HTMLElement>('[data-testid=detail] [role=tab][aria-selected=true]')?.focus(),
    )
    return true
  }
  return false
}
