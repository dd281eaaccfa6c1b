const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'] as const

/** `512 B`, `96 MiB`, `5.8 GiB`. */
export function bytes(size: number): string {
  let value = Math.max(0, size)
  let unit = 0
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024
    unit += 1
  }
  const digits = unit > 0 && value < 10 && value % 1 >= 0.05 ? 1 : 0
  return `${value.toFixed(digits)} ${UNITS[unit] ?? 'B'}`
}
