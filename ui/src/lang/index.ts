import { de } from './de'
import { en, type Text } from './en'

export type { Text } from './en'

const CATALOGUES: Readonly<Record<string, Text>> = { en, de }

/** The first language there is a catalogue for; `?lang=` in the address comes before the browser's list. */
export function chooseLanguage(search: string, preferred: readonly string[]): Text {
  const asked = new URLSearchParams(search).get('lang')
  for (const language of asked === null ? preferred : [asked, ...preferred]) {
    const code = language.toLowerCase().split('-')[0] ?? ''
    if (Object.hasOwn(CATALOGUES, code)) return CATALOGUES[code] ?? en
  }
  return en
}

/** The language is chosen once: changing it is a reload. */
export const text: Text = typeof document === 'undefined' ? en : chooseLanguage(location.search, navigator.languages)
