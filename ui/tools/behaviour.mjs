/** Drives the built page over the mock: keys, routes, reload, and how fast it stays. Run after `npm run shots`. */
import { join } from 'node:path'
import { tmpdir } from 'node:os'
import { chromium } from 'playwright-core'
import { chromiumOptions } from '../../tests/support/chromium.mjs'
import { serve } from './serve.mjs'

const { address, close } = await serve(join(tmpdir(), 'berth-mock-page'))
const browser = await chromium.launch(chromiumOptions)
let failures = 0
function check(what, condition, more = '') {
  if (!condition) failures += 1
  console.log(`${condition ? 'ok  ' : 'FAIL'} ${what} ${more}`)
}
async function open(query) {
  const context = await browser.newContext({
    viewport: { width: 1440, height: 900 },
    permissions: ['clipboard-read', 'clipboard-write'],
  })
  const page = await context.newPage()
  page.on('pageerror', (error) => check(`no error on the page: ${error.message}`, false))
  page.on('console', (message) => message.type() === 'error' && check(`console: ${message.text()}`, false))
  await page.goto(address + query)
  await page.waitForSelector('[data-testid=container-row]')
  return page
}
const frames = (page, milliseconds, act) =>
  page.evaluate(
    ([time, code]) =>
      new Promise((resolve) => {
        const gaps = []
        let last = performance.now()
        const begun = last
        const step = new Function('elapsed', code)
        const tick = (now) => {
          gaps.push(now - last)
          last = now
          step(now - begun)
          if (now - begun < time) requestAnimationFrame(tick)
          else {
            gaps.sort((a, b) => a - b)
            resolve({
              frames: gaps.length,
              median: gaps[gaps.length >> 1],
              p95: gaps[Math.floor(gaps.length * 0.95)],
              worst: gaps.at(-1),
            })
          }
        }
        requestAnimationFrame(tick)
      }),
    [milliseconds, act],
  )

{
  const page = await open('')
  const row = (name) => page.locator(`[data-testid=container-row][data-name="${name}"]`)
  const chosen = () =>
    page
      .locator('[data-testid=container-row][aria-selected=true]')
      .evaluateAll((all) => all.map((one) => one.dataset.name))
  await page.keyboard.press('j')
  await page.keyboard.press('j')
  check('j moves to the first row', (await chosen()).join() === 'grafana', (await chosen()).join())
  await page.keyboard.press('Shift+ArrowDown')
  check('shift extends', (await chosen()).length === 2)
  await page.keyboard.press('Escape')
  check('escape clears', (await chosen()).length === 0)
  await page.keyboard.press('a')
  check('a selects all shown', (await chosen()).length === 17)
  check('bulk bar', await page.locator('[data-testid=bulk-bar]').isVisible())
  await page.keyboard.press('Escape')
  await row('api').click()
  check('a click opens the detail', await page.locator('[data-testid=detail]').isVisible())
  await page.keyboard.press('j')
  check('the detail follows', (await page.locator('[data-testid=detail] h2').innerText()) === 'cache')
  await page.keyboard.press('l')
  await page.waitForSelector('[data-testid=log-line]')
  check('the address says it', /#\/containers\/bundled\/[0-9a-f]{64}\/logs/.test(page.url()))
  await page.keyboard.press('/')
  await page.keyboard.type('project:shop')
  check(
    'the count says what is hidden',
    (await page.locator('[data-testid=row-count]').innerText()) === '7 of 17 shown',
  )
  await page.keyboard.press('Enter')
  await page.reload()
  await page.waitForSelector('[data-testid=log-line]')
  check(
    'reload keeps filter, tab and selection',
    (await page.inputValue('[data-testid=filter]')) === 'project:shop' && (await chosen()).join() === 'cache',
  )
  await page.keyboard.press('Alt+ArrowLeft')
  await page.waitForTimeout(200)
  check('back', !page.url().includes('/logs'), page.url().slice(-40))
  await page.keyboard.press('Alt+ArrowRight')
  await page.waitForTimeout(200)
  check('forward', page.url().includes('/logs'))
  await page.keyboard.press('Control+f')
  await page.keyboard.type('(')
  await page.click('[aria-label="Regular expression"]')
  check('a bad pattern is explained', /Unterminated group/i.test(await page.locator('.wrong').innerText()))
  await page.fill('[data-log-search]', 'pay.ent')
  await page.waitForTimeout(300)
  await page.click('[aria-label="Only matching lines"]')
  await page.waitForTimeout(200)
  const shown = await page.locator('[data-testid=log-line]').allInnerTexts()
  check('only hits are shown', shown.length > 5 && shown.every((line) => line.includes('payment')))
  await page.click('[aria-label="Clear"]')
  await page.waitForTimeout(100)
  check('clear clears', (await page.locator('[data-testid=log-line]').count()) <= 1)
  await page.click('[data-testid=detail] [aria-label="Close"]')
  await page.keyboard.press('/')
  await page.keyboard.press('Escape')
  await page.keyboard.press('Escape')
  await row('web').click({ modifiers: ['Control'] })
  await row('cache').click({ modifiers: ['Control'] })
  await page
    .locator('[data-testid=container-row][data-name=web]')
    .focus()
    .catch(() => undefined)
  await page.keyboard.press('Shift+F10')
  await page.waitForSelector('[role=menu]')
  check(
    'the menu opens by key with the focus in it',
    await page.evaluate(() => document.activeElement?.closest('[role=menu]') !== null),
  )
  await page.keyboard.press('Escape')
  await page.waitForTimeout(100)
  await page.keyboard.press('s')
  await page.waitForTimeout(60)
  check(
    'the status bar counts operations',
    /operation|Stopping|Starting/.test(await page.locator('[data-testid=operations]').innerText()),
    await page.locator('[data-testid=operations]').innerText(),
  )
  await page.waitForTimeout(1_300)
  check('stopped', (await row('web').getAttribute('data-state')) === 'exited')
  await page.evaluate(() => window.berthMock.setEngine('lost'))
  await page.waitForSelector('[data-testid=engine-banner]')
  check('rows stay while the engine is lost', (await page.locator('[data-testid=container-row]').count()) > 10)
  await page.evaluate(() => window.berthMock.setEngine('ready'))
  await page.waitForTimeout(300)
  check('the banner goes by itself', (await page.locator('[data-testid=engine-banner]').count()) === 0)
  await page.keyboard.press('Control+k')
  await page.keyboard.type('graf')
  await page.keyboard.press('Enter')
  await page.waitForTimeout(200)
  check('the palette opens a container', (await page.locator('[data-testid=detail] h2').innerText()) === 'grafana')
  await page.keyboard.press('Enter')
  await page.waitForTimeout(150)
  check('enter takes the full width', page.url().includes('wide=1'))
  await page.keyboard.press('Escape')
  await page.waitForTimeout(150)
  check(
    'escape gives the focus back to the list',
    await page.evaluate(() => document.activeElement?.hasAttribute('data-list') ?? false),
  )
  await page.click('[role=columnheader] button:has-text("Name")')
  check('sorted', (await page.locator('[role=columnheader].name').getAttribute('aria-sort')) === 'ascending')
  await page.context().close()
}
{
  const page = await open('?n=10000')
  const scroll = await frames(page, 3_000, "document.querySelector('[data-list]').scrollTop = (elapsed * 10) % 300000")
  check('10,000 rows scroll', scroll.p95 < 40, JSON.stringify(scroll))
  const typed = await page.evaluate(async () => {
    const field = document.querySelector('[data-testid=filter]')
    const begun = performance.now()
    field.value = 'service-99'
    field.dispatchEvent(new Event('input', { bubbles: true }))
    await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)))
    return performance.now() - begun
  })
  check('filtering 10,000 rows', typed < 200, `${typed.toFixed(0)} ms`)
  await page.context().close()
}
{
  const page = await open('?flood')
  await page.click('[data-testid=container-row][data-name="api"]')
  await page.keyboard.press('l')
  await page.waitForSelector('[data-testid=log-line]')
  await page.waitForTimeout(500)
  const flood = await frames(page, 4_000, '')
  check('a flood leaves the page alive', flood.p95 < 60, JSON.stringify(flood))
  await page.mouse.move(1_200, 500)
  await page.mouse.wheel(0, -2_000)
  await page.waitForTimeout(400)
  const first = () => page.locator('[data-testid=log-line] time').nth(20).innerText()
  check(
    'the pill counts',
    /new lines/.test(await page.locator('[data-testid=log-pill]').innerText()),
    await page.locator('[data-testid=log-pill]').innerText(),
  )
  const before = await first()
  await page.waitForTimeout(150)
  check('what is read stays still', before === (await first()))
  await page.keyboard.press('Control+f')
  await page.keyboard.type('payment')
  await page.waitForTimeout(1_000)
  check(
    'search keeps up',
    /of/.test(await page.locator('.find .count').innerText()),
    await page.locator('.find .count').innerText(),
  )
  await page.click('[data-testid=log-pill]')
  await page.waitForTimeout(200)
  check('the pill goes to the end', (await page.locator('[data-testid=log-pill]').count()) === 0)
  await page.click('[aria-label="Wrap lines"]')
  await page.waitForTimeout(300)
  const wrapped = await frames(page, 3_000, '')
  check('a flood with wrapped lines', wrapped.p95 < 100, JSON.stringify(wrapped))
  await page.context().close()
}
await browser.close()
close()
console.log(`${String(failures)} failures`)
process.exitCode = failures > 0 ? 1 : 0
