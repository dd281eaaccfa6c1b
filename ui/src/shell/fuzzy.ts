/**
 * How well a name answers what was typed: every character in order, better at the beginnings of words and in runs.
 * Null when it does not. Linear in the length of the name.
 */
export function fuzzyScore(query: string, name: string): number | null {
  if (query === '') return 0
  const wanted = query.toLowerCase()
  const lower = name.toLowerCase()
  const direct = lower.indexOf(wanted)
  if (direct >= 0) return 1_000 - direct - lower.length / 100 + (direct === 0 || isEdge(lower, direct) ? 200 : 0)
  let score = 0
  let at = 0
  let run = 0
  for (const character of wanted) {
    if (character === ' ') continue
    const found = lower.indexOf(character, at)
    if (found < 0) return null
    run = found === at && at > 0 ? run + 1 : 0
    score += 1 + run * 3 + (isEdge(lower, found) ? 8 : 0) - Math.min(4, (found - at) / 4)
    at = found + 1
  }
  return score - lower.length / 100
}

function isEdge(text: string, index: number): boolean {
  return index === 0 || /[\s\-_./:]/.test(text.charAt(index - 1))
}
