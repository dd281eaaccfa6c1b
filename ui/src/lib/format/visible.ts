const HIDDEN = /[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]/g

const REORDERING = /[\u202a-\u202e\u2066-\u2069]/g
const REORDERS = /[\u202a-\u202e\u2066-\u2069]/

/** Text of any length, its lines and tabs as they are, with nothing in it that shows it in another order. */
export function inOrder(text: string): string {
  return REORDERS.test(text) ? text.replace(REORDERING, '\ufffd') : text
}

/** A name on one line with nothing in it that reorders or hides text: such characters are shown as `\ufffd`. */
export function visible(name: string): string {
  return name.replace(HIDDEN, '\ufffd')
}
