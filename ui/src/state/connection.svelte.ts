import type { Connection } from '../transport'
import type { About } from '../wire'

/** How the page stands with Berth. */
class BerthLink {
  connection: Connection = $state('connecting')
  since = $state(Date.now())
  about: About | null = $state.raw(null)
  /** The page was built for another Berth. */
  outdated = $state(false)

  report(connection: Connection): void {
    if (this.connection === connection) return
    this.connection = connection
    this.since = Date.now()
  }
}

export const link = new BerthLink()
