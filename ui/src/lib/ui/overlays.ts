/** True while a dialog or a menu has the keyboard, so that the page's own keys stay quiet. */
export function overlayOpen(): boolean {
  return document.querySelector('[data-overlay]') !== null
}

/** True for fields one types in. */
export function isTyping(target: EventTarget | null): boolean {
  if (!(target instanceof HTMLElement)) return false
  return target.isContentEditable || target.matches('input:not([type=checkbox]), textarea, select')
}
