const HIDDEN = /[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]/g

/** A name on one line with nothing in it that reorders or hides text: such characters are shown as `\ufffd`. */
export function visible(name: string): string {
  return name.replace(HIDDEN, '\ufffd')
}
