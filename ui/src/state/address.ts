export type DetailTab = 'overview' | 'logs'

/** Where the page stands, as the address says it. */
export interface Place {
  page: 'containers' | 'engine'
  /** The engine whose page is shown. */
  engine: string | null
  /** The container whose detail is open. */
  detail: { engine: string; id: string; tab: DetailTab } | null
  /** The detail takes the whole width. */
  wide: boolean
  filter: string
}

/** Where the page of an engine is. */
export function engineHref(engine: string): string {
  return `#/engine/${encodeURIComponent(engine)}`
}

/** Reads `#/containers/<engine>/<id>/<tab>?filter=…&wide` and `#/engine/<engine>`. Anything else is the plain list. */
export function readAddress(hash: string): Place {
  const [path = '', query = ''] = hash.replace(/^#/, '').split(/\?(.*)/s)
  const parts = path
    .split('/')
    .filter((part) => part !== '')
    .map(decoded)
  const parameters = new URLSearchParams(query)
  const [page, engine, id, tab] = parts
  const detail =
    page === 'containers' && engine && id
      ? { engine, id, tab: tab === 'logs' ? ('logs' as const) : ('overview' as const) }
      : null
  if (page === 'engine' && engine) return { page, engine, detail: null, wide: false, filter: '' }
  return {
    page: 'containers',
    engine: null,
    detail,
    wide: detail !== null && parameters.has('wide'),
    filter: parameters.get('filter') ?? '',
  }
}

export function writeAddress(place: Place): string {
  if (place.page === 'engine' && place.engine !== null) return engineHref(place.engine)
  let path = '#/containers'
  if (place.detail) {
    path += `/${encodeURIComponent(place.detail.engine)}/${encodeURIComponent(place.detail.id)}/${place.detail.tab}`
  }
  const parameters = new URLSearchParams()
  if (place.filter !== '') parameters.set('filter', place.filter)
  if (place.wide && place.detail) parameters.set('wide', '1')
  const query = parameters.toString()
  return query === '' ? path : `${path}?${query}`
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part)
  } catch {
    return part
  }
}
