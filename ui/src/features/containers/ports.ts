import type { PortRow } from '../../wire'

export interface PublishedPort {
  key: string
  label: string
  /** Where a browser finds it; null for what no browser opens. */
  address: string | null
}

const EVERYWHERE: ReadonlySet<string> = new Set(['', '0.0.0.0', '::', '127.0.0.1', '::1'])

/** Published ports in order, each once although it is published on IPv4 and IPv6 alike. */
export function publishedPorts(ports: readonly PortRow[]): PublishedPort[] {
  const seen = new Map<string, PublishedPort>()
  const sorted = ports.filter((port) => port.hostPort !== null).sort((a, b) => (a.hostPort ?? 0) - (b.hostPort ?? 0))
  for (const port of sorted) {
    const number = String(port.hostPort)
    const special = EVERYWHERE.has(port.hostAddress ?? '') ? null : (port.hostAddress ?? '')
    const tcp = port.protocol === 'tcp'
    const key = `${special ?? ''}:${number}/${port.protocol}`
    const host = special === null ? 'localhost' : special.includes(':') ? `[${special}]` : special
    seen.set(key, {
      key,
      label: `${special === null ? '' : host}:${number}${tcp ? '' : `/${port.protocol}`}`,
      address: tcp ? `http://${host}:${number}` : null,
    })
  }
  return [...seen.values()]
}
