// Measures the pull transport where it has to hold: in the real WebKitGTK window and in Chromium.
//
//   cargo xtask bench transport            both, a flood of 60 s each
//   BERTH_BENCH_SECONDS=10 cargo xtask bench transport
//
// A fake engine gives a log of exactly so many lines a second, so that the transport is measured and not dockerd.
// What is measured: the echo of a mutation (call until its world patch is there), idle and during the flood; lines that
// arrive and lines that are reported as left out; memory (PSS) of Berth and of the web view over time; how long the
// page's main thread is blocked; and whether a mutation runs once when the page reloads in the middle of it.
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import http from "node:http";
import { createRequire } from "node:module";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";

import { chromiumOptions } from "../support/chromium.mjs";
import { desktop, fakeEngine, startServe } from "../support/engine.mjs";
import { probe } from "./transport-probe.mjs";

// A window needs a display; where there is none it gets one of its own.
if (!process.env.DISPLAY && !process.env.WAYLAND_DISPLAY) {
  const again = ["--", "xvfb-run", "--auto-servernum", "--server-args=-screen 0 1920x1080x24", ...process.argv];
  const { status } = spawnSync("dbus-run-session", again, { stdio: "inherit" });
  process.exit(status ?? 1);
}

const seconds = Number(process.env.BERTH_BENCH_SECONDS ?? 60);
const rate = Number(process.env.BERTH_BENCH_RATE ?? 100_000);
const sleep = (milliseconds) => new Promise((fulfil) => setTimeout(fulfil, milliseconds));

function pssOfTree(root) {
  const parents = new Map();
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
      parents.set(Number(pid), Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]));
    } catch {
      // It ended meanwhile.
    }
  }
  const inTree = (pid) => pid === root || (parents.has(pid) && parents.get(pid) > 1 && inTree(parents.get(pid)));
  const sums = {};
  for (const pid of parents.keys()) {
    if (!inTree(pid)) continue;
    try {
      const pss = /^Pss:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, "utf8"));
      const name = readFileSync(`/proc/${pid}/comm`, "utf8").trim();
      sums[name] = (sums[name] ?? 0) + Number(pss?.[1] ?? 0) / 1024;
    } catch {
      // It ended meanwhile.
    }
  }
  return sums;
}

const percentile = (values, share) => {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
};

/** MB a minute, by least squares over the second half, when caches have filled. */
function slope(samples) {
  const half = samples.slice(Math.floor(samples.length / 2));
  if (half.length < 3) return NaN;
  const mean = (list) => list.reduce((a, b) => a + b, 0) / list.length;
  const [mx, my] = [mean(half.map((s) => s.at)), mean(half.map((s) => s.total))];
  const over = half.reduce((sum, s) => sum + (s.at - mx) * (s.total - my), 0);
  return (over / half.reduce((sum, s) => sum + (s.at - mx) ** 2, 0)) * 60;
}

const changes = (socket) =>
  new Promise((fulfil, reject) =>
    http
      .get({ socketPath: socket, path: "/fake/changes" }, (response) => {
        let text = "";
        response.on("data", (chunk) => (text += chunk));
        response.on("end", () => fulfil(Number(text)));
      })
      .on("error", reject),
  );

async function measure(name, socket, { evaluate, reload, pid }) {
  await evaluate(`(${probe})()`);
  const run = (body) => evaluate(`window.berthProbe.${body}`);
  await run("start()");
  const idle = await run("echo(100)");
  await run("flood()");
  const memory = [];
  const begun = Date.now();
  const flooded = run(`echoFor(${seconds * 1000})`);
  let done = false;
  flooded.finally(() => (done = true)).catch(() => undefined);
  while (!done) {
    const parts = pssOfTree(pid);
    memory.push({ at: (Date.now() - begun) / 1000, total: Object.values(parts).reduce((a, b) => a + b, 0), parts });
    await sleep(2000);
  }
  const busy = await flooded;
  const count = await run("result()");
  const before = await changes(socket);
  await run("mutateAndLeave()").catch(() => undefined);
  await reload();
  await sleep(1500);
  const repeated = (await changes(socket)) - before;
  const last = memory.at(-1);
  const figures = {
    engine: name,
    "echo idle p50/p95 ms": `${percentile(idle, 0.5).toFixed(1)} / ${percentile(idle, 0.95).toFixed(1)}`,
    "echo in flood p50/p95/p99 ms": [0.5, 0.95, 0.99].map((p) => percentile(busy, p).toFixed(1)).join(" / "),
    "lines delivered": count.lines,
    "lines reported left out": count.dropped,
    "lines a second": Math.round((count.lines + count.dropped) / count.seconds),
    "delivered a second": Math.round(count.lines / count.seconds),
    "sequence errors": count.disorder,
    "main thread blocked > 50 ms": `${count.blocked} times, longest ${Math.round(count.longest)} ms`,
    "PSS at start / end MB": `${memory[0].total.toFixed(0)} / ${last.total.toFixed(0)}`,
    "PSS slope MB/min (2nd half)": slope(memory).toFixed(2),
    "PSS over time MB": memory.filter((_, i) => i % Math.ceil(memory.length / 10) === 0).map((s) => s.total.toFixed(0)).join(" "),
    "PSS by process MB": Object.entries(last.parts).map(([k, v]) => `${k} ${v.toFixed(0)}`).join(", "),
    "runs of a mutation sent during reload": repeated,
  };
  console.log(`\n${name}`);
  for (const [key, value] of Object.entries(figures)) console.log(`  ${key.padEnd(40)} ${value}`);
}

async function inChromium(socket, folder) {
  const { chromium } = createRequire(new URL("../browser/package.json", import.meta.url))("@playwright/test");
  const serve = await startServe("--data", join(folder, "chromium"), "--engine", `unix://${socket}`);
  const server = await chromium.launchServer(chromiumOptions);
  const browser = await chromium.connect(server.wsEndpoint());
  try {
    const page = await browser.newPage({ viewport: { width: 1280, height: 800 } });
    await page.goto(serve.link);
    await page.getByTestId("container-row").first().waitFor();
    await measure("Chromium, WebSocket", socket, {
      evaluate: (text) => page.evaluate(text),
      reload: () => page.reload(),
      pid: server.process().pid,
    });
  } finally {
    await browser.close();
    await server.close();
    await serve.stop();
  }
}

async function inWindow(socket, folder) {
  const { openWindow } = await import("../desktop/window.mjs");
  const berth = await openWindow("--data", join(folder, "window"), "--engine", `unix://${socket}`);
  try {
    await berth.until("rows", async () => Boolean(await berth.find("container-row")));
    await berth.window.manage().setTimeouts({ script: (seconds + 60) * 1000 });
    const pid = Number(
      readdirSync("/proc").find((entry) => {
        try {
          return /^\d+$/.test(entry) && readFileSync(`/proc/${entry}/cmdline`, "utf8").startsWith(`${desktop}\0`);
        } catch {
          return false;
        }
      }),
    );
    await measure("WebKitGTK window, invoke", socket, {
      evaluate: (text) =>
        berth.window.executeAsyncScript(
          `const done = arguments[arguments.length - 1]; Promise.resolve(${text}).then(done, (error) => done(String(error)));`,
        ),
      reload: () => berth.window.navigate().refresh(),
      pid,
    });
  } finally {
    await berth.quit();
  }
}

const folder = mkdtempSync(join(tmpdir(), "berth-bench-"));
const socket = join(folder, "fake.sock");
const engine = spawn(fakeEngine, ["--socket", socket, "--containers", "50", "--running", "50", "--log-rate", String(rate)], {
  stdio: "inherit",
});
try {
  await sleep(500);
  console.log(`${cpus().length} cores, ${rate} lines a second of 100 bytes for ${seconds} s`);
  const wanted = process.argv[2];
  if (wanted !== "window") await inChromium(socket, folder);
  if (wanted !== "chromium") await inWindow(socket, folder);
} finally {
  engine.kill("SIGINT");
  rmSync(folder, { recursive: true, force: true });
}
