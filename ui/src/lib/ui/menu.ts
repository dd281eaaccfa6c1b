import type { Component } from 'svelte'

export interface MenuAction {
  kind: 'action'
  label: string
  run: () => void
  icon?: Component<{ size?: number | string; strokeWidth?: number | string }>
  key?: string
  disabled?: boolean
  danger?: boolean
  /** Drawn with a tick; the menu stays open. */
  checked?: boolean
}

export type MenuEntry = MenuAction | { kind: 'line' }
