import { describe, expect, it } from 'vitest'
import { itemAt, offsetsOf, rangeOf, scrollToShow } from './window-range'

/** A header of 32 and nine rows of 36, over and over. */
const offsets = offsetsOf(100, (index) => (index % 10 === 0 ? 32 : 36))

describe('window range', () => {
  it('adds up heights', () => {
    expect(offsets[0]).toBe(0)
    expect(offsets[1]).toBe(32)
    expect(offsets[100]).toBe(10 * 32 + 90 * 36)
  })

  it('finds the item under any position', () => {
    for (let index = 0; index < 100; index += 1) {
      expect(itemAt(offsets, offsets[index] ?? 0)).toBe(index)
      expect(itemAt(offsets, (offsets[index + 1] ?? 0) - 0.5)).toBe(index)
    }
    expect(itemAt(offsets, -50)).toBe(0)
    expect(itemAt(offsets, 1e9)).toBe(99)
  })

  it('covers the view and no more than the overscan beyond', () => {
    for (let top = 0; top < 3_560; top += 7) {
      const { start, end } = rangeOf(offsets, top, 400, 3)
      expect(offsets[start] ?? Infinity).toBeLessThanOrEqual(top)
      expect(offsets[end] ?? 0).toBeGreaterThanOrEqual(Math.min(top + 400, offsets[100] ?? 0))
      expect(end - start).toBeLessThanOrEqual(13 + 2 * 3 + 2)
    }
  })

  it('is empty for nothing', () => {
    expect(
      rangeOf(
        offsetsOf(0, () => 36),
        0,
        400,
        3,
      ),
    ).toEqual({ start: 0, end: 0 })
    expect(rangeOf(offsets, 0, 0, 3)).toEqual({ start: 0, end: 0 })
  })

  it('scrolls as little as possible', () => {
    expect(scrollToShow(offsets, 5, 0, 400)).toBe(0)
    expect(scrollToShow(offsets, 0, 100, 400)).toBe(0)
    expect(scrollToShow(offsets, 20, 0, 400)).toBe((offsets[21] ?? 0) - 400)
  })
})
