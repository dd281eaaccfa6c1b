export interface Toast {
  id: number
  message: string
  detail: string
  bad: boolean
}

const SHOWN_MILLISECONDS = 3_000
const SHOWN_BAD_MILLISECONDS = 8_000
const AT_MOST = 4

/** Short notices at the edge of the window. */
class Toasts {
  list: Toast[] = $state.raw([])
  #next = 1

  say(message: string): void {
    this.#add({ message, detail: '', bad: false })
  }

  complain(message: string, detail = ''): void {
    this.#add({ message, detail, bad: true })
  }

  dismiss(id: number): void {
    this.list = this.list.filter((toast) => toast.id !== id)
  }

  #add(toast: Omit<Toast, 'id'>): void {
    const id = this.#next++
    const others = this.list.filter((other) => other.message !== toast.message || other.detail !== toast.detail)
    this.list = [...others, { ...toast, id }].slice(-AT_MOST)
    setTimeout(() => this.dismiss(id), toast.bad ? SHOWN_BAD_MILLISECONDS : SHOWN_MILLISECONDS)
  }
}

export const toasts = new Toasts()
