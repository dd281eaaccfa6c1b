import './styles/fonts.css'
import './styles/tokens.css'
import './styles/base.css'
import { mount } from 'svelte'
import App from './app.svelte'
import { text } from './lang'
import { clock } from './state/clock.svelte'
import { link } from './state/connection.svelte'
import { route } from './state/route.svelte'
import { selection } from './state/selection.svelte'
import { settings } from './state/settings.svelte'
import { followWorld, world } from './state/world.svelte'
import { call, connect, startPump, toWireError } from './transport'
import { WIRE } from './wire'

const RETRY_MILLISECONDS = 1_000

async function greet(): Promise<void> {
  for (;;) {
    try {
      const about = await call('about', {})
      link.about = about
      link.outdated = about.wire !== WIRE
      return
    } catch (error) {
      if (toWireError(error).code === 'unauthorized') {
        link.report('unauthorized')
        return
      }
      link.report('reconnecting')
      await new Promise((resolve) => setTimeout(resolve, RETRY_MILLISECONDS))
    }
  }
}

async function begin(): Promise<void> {
  document.documentElement.lang = text.code
  settings.begin()
  await connect((connection) => link.report(connection))
  route.begin()
  selection.recall()
  clock.start()
  const target = document.getElementById('app')
  if (target) mount(App, { target })
  await greet()
  if (link.outdated || link.connection === 'unauthorized') return
  settings.load().catch(() => undefined)
  followWorld(world)
  startPump()
}

void begin()
