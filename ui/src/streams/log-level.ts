export type LogLevel = 'error' | 'warn' | 'info' | 'debug'

/** How much of a line is looked at: levels stand at the front. */
const LOOKED_AT = 320

const WORDS: Readonly<Record<string, LogLevel>> = {
  emerg: 'error',
  emergency: 'error',
  alert: 'error',
  critical: 'error',
  crit: 'error',
  fatal: 'error',
  panic: 'error',
  severe: 'error',
  error: 'error',
  err: 'error',
  eror: 'error',
  warning: 'warn',
  warn: 'warn',
  wrn: 'warn',
  notice: 'info',
  info: 'info',
  inf: 'info',
  information: 'info',
  log: 'info',
  debug: 'debug',
  dbg: 'debug',
  debu: 'debug',
  trace: 'debug',
  trc: 'debug',
  verbose: 'debug',
}

const FIELD = /["']?\b(?:level|lvl|severity|log\.level)["']?\s*[=:]\s*["']?([a-z]{3,11})/i
const NUMBER_FIELD = /"level"\s*:\s*(\d0)\b/
const MARKED =
  /(?:^|[\s[(<|])(EMERG|ALERT|CRITICAL|CRIT|FATAL|PANIC|SEVERE|ERROR|ERR|EROR|WARNING|WARN|WRN|NOTICE|INFO|INF|LOG|DEBUG|DBG|DEBU|TRACE|TRC|VERBOSE)(?=[\s\])>|:,]|$)/
const BRACKETED = /[[(<](emerg|alert|crit|critical|fatal|error|warn|warning|notice|info|debug|trace)[\])>]/i
const LEADING = /^\W{0,4}(fatal|panic|error|warn|warning|info|debug|trace)(?=[\s:|\]])/i
const KLOG = /^([IWEF])\d{4} \d\d:\d\d:/

const KLOG_LEVELS: Readonly<Record<string, LogLevel>> = { I: 'info', W: 'warn', E: 'error', F: 'error' }

/** Words at the front that say no more than the level's own name does; FATAL or NOTICE say more. */
const FRONT =
  /^(?:[[(<](error|err|eror|warning|warn|wrn|info|inf|debug|dbg|debu)[\])>]:?|(error|err|eror|warning|warn|wrn|info|inf|debug|dbg|debu):|(ERROR|ERR|EROR|WARNING|WARN|WRN|INFO|INF|DEBUG|DBG|DEBU))\s+(?=\S)/
const FRONT_ANY_CASE = new RegExp(FRONT.source, 'i')

/**
 * How many characters at the front of a plain line only repeat its level, which has a column of its own. In small
 * letters a word counts only when it is marked as a level: "Error while reading" is a sentence.
 */
export function levelLength(line: string, level: LogLevel | null): number {
  if (level === null) return 0
  const head = line.slice(0, LOOKED_AT)
  const found = FRONT.exec(head) ?? FRONT_ANY_CASE.exec(head)
  if (!found || (found[3] !== undefined && found[3] !== found[3].toUpperCase())) return 0
  const word = (found[1] ?? found[2] ?? found[3] ?? '').toLowerCase()
  return WORDS[word] === level ? found[0].length : 0
}

/** The level a plain line says it has. Never guessed from the stream it came by. */
export function levelOf(line: string): LogLevel | null {
  const head = line.length > LOOKED_AT ? line.slice(0, LOOKED_AT) : line
  const field = FIELD.exec(head)?.[1]?.toLowerCase()
  if (field !== undefined && Object.hasOwn(WORDS, field)) return WORDS[field] ?? null
  const number = NUMBER_FIELD.exec(head)?.[1]
  if (number !== undefined) {
    const value = Number(number)
    return value >= 50 ? 'error' : value >= 40 ? 'warn' : value >= 30 ? 'info' : 'debug'
  }
  const klog = KLOG.exec(head)?.[1]
  if (klog !== undefined) return KLOG_LEVELS[klog] ?? null
  const word = (MARKED.exec(head) ?? BRACKETED.exec(head) ?? LEADING.exec(head))?.[1]?.toLowerCase()
  return word !== undefined && Object.hasOwn(WORDS, word) ? (WORDS[word] ?? null) : null
}
