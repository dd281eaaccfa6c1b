import { inDesktopWindow } from '../transport/tauri'

/** What the thing that shows the page can do. Ask for these, never for its name. */
export interface Capabilities {
  /** Addresses open in the user's browser. */
  readonly openAddress: boolean
  /** A file can be saved from the page. */
  readonly saveFile: boolean
}

export const capabilities: Capabilities = inDesktopPage()
  ? { openAddress: false, saveFile: false }
  : { openAddress: true, saveFile: true }

function inDesktopPage(): boolean {
  return typeof window !== 'undefined' && inDesktopWindow()
}

/** Puts text on the clipboard; false when the page may not. */
export async function copyText(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text)
    return true
  } catch {
    return copyBySelection(text)
  }
}

function copyBySelection(text: string): boolean {
  const field = document.createElement('textarea')
  field.value = text
  field.className = 'visually-hidden'
  field.setAttribute('aria-hidden', 'true')
  document.body.append(field)
  const before = document.activeElement
  field.select()
  try {
    return document.execCommand('copy')
  } catch {
    return false
  } finally {
    field.remove()
    if (before instanceof HTMLElement) before.focus({ preventScroll: true })
  }
}

/** Hands text to the browser as a download. Only with `capabilities.saveFile`. */
export function saveText(name: string, parts: string[]): void {
  const address = URL.createObjectURL(new Blob(parts, { type: 'text/plain;charset=utf-8' }))
  const link = document.createElement('a')
  link.href = address
  link.download = name
  link.click()
  setTimeout(() => URL.revokeObjectURL(address), 10_000)
}

export const isApple = typeof navigator !== 'undefined' && /Mac|iPhone|iPad/.test(navigator.platform)
