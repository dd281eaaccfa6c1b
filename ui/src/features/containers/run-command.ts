import type { CommandPiece } from '../../wire'

/** What stands for a value that is not shown. */
export const MASK = '••••••••'

/** The whole line, as a shell takes it. */
export function wholeCommand(pieces: readonly CommandPiece[]): string {
  return pieces.map((piece) => piece.text).join('')
}

/** The line with its secrets masked. */
export function maskedCommand(pieces: readonly CommandPiece[]): string {
  return pieces.map((piece) => (piece.secret ? MASK : piece.text)).join('')
}
