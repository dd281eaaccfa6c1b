import { expect, it } from 'vitest'
import { MASK, maskedCommand, wholeCommand } from './run-command'

it('masks what is secret and nothing else', () => {
  const pieces = [
    { text: 'docker run --env A=', secret: false },
    { text: "'s e c'", secret: true },
    { text: ' web', secret: false },
  ]
  expect(wholeCommand(pieces)).toBe("docker run --env A='s e c' web")
  expect(maskedCommand(pieces)).toBe(`docker run --env A=${MASK} web`)
  expect(maskedCommand([])).toBe('')
})
