/**
 * Builds the page over the mock, draws every state of it in both themes and sizes, and looks for violations:
 * of the content security policy, of accessibility (axe), and anything the console complains about.
 * Run: `npm run shots [folder]`.
 */
import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { chromium } from 'playwright-core'
import { chromiumOptions } from '../../tests/support/chromium.mjs'
import { serve } from './serve.mjs'

const folder = process.argv[2] ?? join(tmpdir(), 'berth-shots')
const built = join(tmpdir(), 'berth-mock-page')
mkdirSync(folder, { recursive: true })
execFileSync('npx', ['vite', 'build', '--mode', 'mock', '--outDir', built, '--emptyOutDir', '--logLevel', 'error'], {
  stdio: 'inherit',
})
const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')

const { address, close } = await serve(built)
const browser = await chromium.launch(chromiumOptions)
let problems = 0

const row = (name) => `[data-testid=container-row][data-name="${name}"]`
const STATES = {
  list: async () => undefined,
  logs: async (page) => {
    await page.click(`${row('api')}`)
    await page.click('[data-testid=tab-logs]')
    await page.fill('[data-log-search]', 'payment')
    await page.waitForTimeout(300)
  },
  paused: async (page) => {
    await page.click(`${row('api')}`)
    await page.click('[data-testid=tab-logs]')
    await page.waitForTimeout(300)
    await page.mouse.move(page.viewportSize().width - 200, 500)
    await page.mouse.wheel(0, -900)
    await page.waitForTimeout(1_800)
  },
  wrapped: async (page) => {
    await page.click(`${row('db')}`)
    await page.click('[data-testid=tab-logs]')
    await page.click('[aria-label="Wrap lines"]')
    await page.waitForTimeout(300)
  },
  ended: async (page) => {
    await page.click(`${row('import')}`)
    await page.click('[data-testid=tab-logs]')
    await page.waitForTimeout(300)
  },
  overview: async (page) => {
    await page.click(row('api'))
    await page.waitForTimeout(300)
  },
  exited: async (page) => {
    await page.click(row('import'))
    await page.waitForTimeout(300)
  },
  wide: async (page) => {
    await page.click(row('api'))
    await page.keyboard.press('Enter')
    await page.waitForTimeout(300)
  },
  flat: async (page) => {
    await page.click('text=Flat')
  },
  filter: async (page) => {
    await page.fill('[data-testid=filter]', 'is:running -image:grafana web')
    await page.fill('[data-testid=filter]', 'is:running project:shop image:shop')
    await page.waitForTimeout(100)
  },
  bulk: async (page) => {
    await page.click(row('web'), { modifiers: ['Control'] })
    await page.click(row('worker'), { modifiers: ['Shift'] })
    await page.click(row('migrate'), { modifiers: ['Control'] })
  },
  dialog: async (page) => {
    await page.click(row('web'), { modifiers: ['Control'] })
    await page.click(row('cache'), { modifiers: ['Shift'] })
    await page.keyboard.press('Delete')
    await page.waitForSelector('[data-testid=confirm-dialog]')
    await page.waitForTimeout(150)
  },
  menu: async (page) => {
    await page.click(row('db'), { button: 'right' })
    await page.waitForTimeout(200)
  },
  palette: async (page) => {
    await page.click(row('web'), { modifiers: ['Control'] })
    await page.keyboard.press('Control+k')
    await page.waitForTimeout(150)
    await page.keyboard.type('st')
    await page.waitForTimeout(150)
  },
  keys: async (page) => {
    await page.keyboard.press('?')
    await page.waitForTimeout(150)
  },
  failures: async (page) => {
    await page.click(row('migrate'), { modifiers: ['Control'] })
    await page.keyboard.press('s')
    await page.click(row('old-postgres'), { modifiers: ['Control'] })
    await page.keyboard.press('Delete')
    await page.waitForSelector('[data-testid=confirm-dialog]')
    await page.keyboard.press('Enter')
    await page.waitForTimeout(1_300)
    await page.keyboard.press('Escape')
  },
  working: async (page) => {
    await page.click(row('web'), { modifiers: ['Control'] })
    await page.click(row('cache'), { modifiers: ['Shift'] })
    await page.keyboard.press('r')
    await page.waitForTimeout(250)
  },
  collapsed: async (page) => {
    await page.keyboard.press('Control+b')
    await page.click('[data-testid=group-row][data-name=shop]')
  },
  nomatch: async (page) => {
    await page.fill('[data-testid=filter]', 'project:nothing')
  },
}
const ADDRESSES = {
  stopped: '?engine=stopped',
  failed: '?engine=failed',
  starting: '?engine=starting',
  lost: '?engine=lost',
  empty: '?empty',
  failures: '?fail',
  working: '?slow=4000',
  thousand: '?n=1000',
  german: '?lang=de',
}
for (const name of ['stopped', 'failed', 'starting', 'lost', 'empty', 'thousand', 'german'])
  STATES[name] = async () => undefined

const only = process.env.ONLY?.split(',')
const sizes = {
  small: { width: 1280, height: 800 },
  design: { width: 1440, height: 900 },
  large: { width: 1920, height: 1080 },
}
const shots = Object.keys(STATES)
  .filter((name) => !only || only.includes(name))
  .flatMap((name) => ['dark', 'light'].map((theme) => ({ name, theme, size: 'design' })))
if (!only) {
  for (const size of ['small', 'large']) {
    for (const name of ['list', 'logs', 'overview', 'thousand'])
      for (const theme of ['dark', 'light']) shots.push({ name, theme, size })
  }
}

for (const { name, theme, size } of shots) {
  const context = await browser.newContext({ viewport: sizes[size], colorScheme: theme, bypassCSP: false })
  const page = await context.newPage()
  const complain = (what) => {
    problems += 1
    console.log(`${name} ${theme} ${size}: ${what}`)
  }
  page.on('console', (message) => {
    if (message.type() === 'error' || message.type() === 'warning') complain(message.text())
  })
  page.on('pageerror', (error) => complain(error.message))
  await page.goto(address + (ADDRESSES[name] ?? ''))
  await page.waitForSelector('[data-testid=container-row], [data-testid=empty-state]:not([data-kind=connecting])')
  await page.waitForTimeout(150)
  try {
    await STATES[name](page)
  } catch (error) {
    complain(error.message)
  }
  await page.screenshot({ path: join(folder, `${name}-${theme}-${size}.png`) })
  // Evaluated by the debugger, which the policy does not bind.
  await page.evaluate(axe)
  const found = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ['violations'] }))
  for (const violation of found.violations) {
    complain(
      `axe ${violation.id}: ${violation.nodes.length} × ${violation.nodes[0].html.slice(0, 160)} | ${violation.nodes[0].failureSummary.slice(0, 240)}`,
    )
  }
  await context.close()
}
await browser.close()
close()
console.log(`${String(shots.length)} pictures in ${folder}, ${String(problems)} problems`)
process.exitCode = problems > 0 ? 1 : 0
