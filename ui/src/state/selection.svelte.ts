import type { ContainerAddress } from './container.svelte'

const MEMORY = 'berth.selection'
const REMEMBERED = 500

/** Which rows are selected, which one has the cursor, and where a range begins. */
export class Selection {
  /** Replaced as a whole on every change. */
  chosen: ReadonlySet<ContainerAddress> = $state.raw(new Set<ContainerAddress>())
  /** The row the keyboard stands on: a container's address or a group's key. */
  cursor: string | null = $state(null)
  #anchor: ContainerAddress | null = null

  only(address: ContainerAddress): void {
    this.chosen = new Set([address])
    this.cursor = address
    this.#anchor = address
  }

  toggle(address: ContainerAddress): void {
    const next = new Set(this.chosen)
    if (!next.delete(address)) next.add(address)
    this.chosen = next
    this.cursor = address
    this.#anchor = address
  }

  /** Everything between the anchor and this row, in the order shown. */
  extend(address: ContainerAddress, order: readonly ContainerAddress[]): void {
    const from = this.#anchor === null ? -1 : order.indexOf(this.#anchor)
    const to = order.indexOf(address)
    if (from < 0 || to < 0) {
      this.only(address)
      return
    }
    this.chosen = new Set(order.slice(Math.min(from, to), Math.max(from, to) + 1))
    this.cursor = address
  }

  all(order: readonly ContainerAddress[]): void {
    this.chosen = new Set(order)
  }

  clear(): void {
    if (this.chosen.size > 0) this.chosen = new Set()
  }

  moveTo(key: string): void {
    this.cursor = key
  }

  /** Drops what is not there any more. */
  keep(exists: (address: ContainerAddress) => boolean): void {
    let gone = false
    for (const address of this.chosen) if (!exists(address)) gone = true
    if (gone) this.chosen = new Set([...this.chosen].filter(exists))
  }

  /** A reload keeps the selection; it is no business of the address. */
  remember(): void {
    try {
      const chosen = [...this.chosen].slice(0, REMEMBERED)
      sessionStorage.setItem(MEMORY, JSON.stringify({ chosen, cursor: this.cursor }))
    } catch {
      // Without storage a reload begins without a selection.
    }
  }

  recall(): void {
    try {
      const value: unknown = JSON.parse(sessionStorage.getItem(MEMORY) ?? 'null')
      if (typeof value !== 'object' || value === null) return
      const { chosen, cursor } = value as { chosen?: unknown; cursor?: unknown }
      if (Array.isArray(chosen)) this.chosen = new Set(chosen.filter((item) => typeof item === 'string'))
      if (typeof cursor === 'string') this.cursor = cursor
    } catch {
      // What cannot be read is forgotten.
    }
  }
}

export const selection = new Selection()
