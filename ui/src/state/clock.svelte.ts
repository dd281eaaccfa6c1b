/** One clock for every "3 h ago" on the page. It is coarse on purpose: the texts it feeds change rarely. */
class Clock {
  now = $state(Date.now())

  start(): void {
    const tick = (): void => {
      if (!document.hidden) this.now = Date.now()
    }
    setInterval(tick, 1_000)
    document.addEventListener('visibilitychange', tick)
  }
}

export const clock = new Clock()
