import { describe, expect, it } from 'vitest'
import { chooseLanguage } from '../lang'
import { de } from '../lang/de'
import { en } from '../lang/en'
import { fuzzyScore } from './fuzzy'

describe('fuzzy', () => {
  it('ranks the whole word, its beginning, then characters in order', () => {
    const rank = (query: string, names: string[]): string[] =>
      names
        .filter((name) => fuzzyScore(query, name) !== null)
        .sort((a, b) => (fuzzyScore(query, b) ?? 0) - (fuzzyScore(query, a) ?? 0))
    expect(rank('web', ['old-cobweb', 'web', 'shop-web-1', 'wide-eel-b', 'db'])).toEqual([
      'web',
      'shop-web-1',
      'old-cobweb',
      'wide-eel-b',
    ])
  })

  it('says no', () => {
    expect(fuzzyScore('xyz', 'web')).toBeNull()
    expect(fuzzyScore('', 'web')).toBe(0)
  })
})

describe('language', () => {
  it('takes the first there is', () => {
    expect(chooseLanguage('', ['fr-FR', 'de-AT', 'en'])).toBe(de)
    expect(chooseLanguage('?lang=en', ['de'])).toBe(en)
    expect(chooseLanguage('?lang=__proto__', ['constructor'])).toBe(en)
  })

  it('has the same keys everywhere', () => {
    const keys = (value: object, path = ''): string[] =>
      Object.entries(value).flatMap(([key, inner]) =>
        typeof inner === 'object' && inner !== null ? keys(inner as object, `${path}${key}.`) : [path + key],
      )
    expect(keys(de)).toEqual(keys(en))
  })
})
