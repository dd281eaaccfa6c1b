/** Which rows of a long list are worth drawing. Plain arithmetic over fixed heights, no DOM. */

export interface WindowRange {
  /** First item to draw. */
  start: number
  /** One past the last item to draw. */
  end: number
}

/** `offsets[i]` is where item `i` begins; the last entry is the height of all. */
export function offsetsOf(count: number, height: (index: number) => number): Float64Array {
  const offsets = new Float64Array(count + 1)
  let at = 0
  for (let index = 0; index < count; index += 1) {
    offsets[index] = at
    at += height(index)
  }
  offsets[count] = at
  return offsets
}

/** The item that covers a position; positions outside give the first or the last. */
export function itemAt(offsets: Float64Array, position: number): number {
  const count = offsets.length - 1
  if (count <= 0) return 0
  let low = 0
  let high = count - 1
  while (low < high) {
    const middle = (low + high + 1) >> 1
    if ((offsets[middle] ?? 0) <= position) low = middle
    else high = middle - 1
  }
  return low
}

export function rangeOf(offsets: Float64Array, top: number, height: number, overscan: number): WindowRange {
  const count = offsets.length - 1
  if (count <= 0 || height <= 0) return { start: 0, end: 0 }
  const start = Math.max(0, itemAt(offsets, top) - overscan)
  const end = Math.min(count, itemAt(offsets, top + height) + 1 + overscan)
  return { start, end }
}

/** Where to scroll so that an item is fully in view, moving as little as possible. */
export function scrollToShow(offsets: Float64Array, index: number, top: number, height: number): number {
  const begins = offsets[index] ?? 0
  const ends = offsets[index + 1] ?? begins
  if (begins < top) return begins
  if (ends > top + height) return ends - height
  return top
}
