import { type DetailTab, type Place, readAddress, writeAddress } from './address'
import { addressOf, type ContainerAddress } from './container.svelte'

/** The address bar as state. Steps a person would want to go back over are pushed, the rest replaces. */
class Route {
  place: Place = $state.raw(readAddress(''))

  begin(): void {
    this.place = readAddress(location.hash)
    const follow = (): void => {
      // A fresh link of `berth serve` in the same tab changes only the hash.
      if (location.hash.startsWith('#t=')) location.reload()
      else this.place = readAddress(location.hash)
    }
    addEventListener('popstate', follow)
    addEventListener('hashchange', follow)
  }

  get detailAddress(): ContainerAddress | null {
    const detail = this.place.detail
    return detail ? addressOf(detail.engine, detail.id) : null
  }

  openDetail(container: { engine: string; id: string }, tab?: DetailTab, wide?: boolean): void {
    this.#go(
      {
        ...this.#list(),
        detail: { engine: container.engine, id: container.id, tab: tab ?? this.place.detail?.tab ?? 'overview' },
        wide: wide ?? this.place.wide,
      },
      'push',
    )
  }

  /** The open detail follows the selection without leaving a trail. */
  followDetail(container: { engine: string; id: string }): void {
    const detail = this.place.detail
    if (!detail) return
    this.#go({ ...this.place, detail: { engine: container.engine, id: container.id, tab: detail.tab } }, 'replace')
  }

  setTab(tab: DetailTab): void {
    const detail = this.place.detail
    if (detail) this.#go({ ...this.place, detail: { ...detail, tab } }, 'push')
  }

  setWide(wide: boolean): void {
    this.#go({ ...this.place, wide }, 'push')
  }

  closeDetail(): void {
    if (this.place.detail) this.#go({ ...this.place, detail: null, wide: false }, 'push')
  }

  setFilter(filter: string): void {
    if (this.place.page === 'containers') this.#go({ ...this.place, filter }, 'replace')
    else this.#go({ ...this.#list(), filter }, 'push')
  }

  openEngine(engine: string): void {
    this.#go({ ...this.#list(), page: 'engine', engine, detail: null, wide: false }, 'push')
  }

  /** The list of containers, as it stands or stood last. */
  #list(): Place {
    return { ...this.place, page: 'containers', engine: null }
  }

  #go(place: Place, how: 'push' | 'replace'): void {
    const before = writeAddress(this.place)
    const after = writeAddress(place)
    this.place = place
    if (before === after && location.hash === after) return
    if (how === 'push') history.pushState(null, '', after)
    else history.replaceState(null, '', after)
  }
}

export const route = new Route()
