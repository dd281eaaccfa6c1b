// Measures how live the page is, on a real engine:
//   - from the engine's own start event to the row in the page;
//   - from kill -9 of dockerd to the page saying so, and to its being live again;
//   - with 1,000 containers (50 running): first rows painted, a cached list, scrolling.
//
//   cargo xtask bench live
import { execFile } from "node:child_process";
import { readFileSync, readdirSync } from "node:fs";
import http from "node:http";
import { createRequire } from "node:module";
import { promisify } from "node:util";

import { chromiumOptions } from "../support/chromium.mjs";
import { startEngine, startServe } from "../support/engine.mjs";

const run = promisify(execFile);
const { chromium } = createRequire(new URL("../browser/package.json", import.meta.url))("@playwright/test");
const total = Number(process.env.BERTH_BENCH_CONTAINERS ?? 1000);
const running = Number(process.env.BERTH_BENCH_RUNNING ?? 50);
const sleep = (milliseconds) => new Promise((fulfil) => setTimeout(fulfil, milliseconds));
const percentile = (values, share) => {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
};
const say = (what, figure) => console.log(`  ${what.padEnd(52)} ${figure}`);

/** Follows /events and gives the wall-clock time of each container's start event. */
function startEvents(socket) {
  const times = new Map();
  const filters = encodeURIComponent(JSON.stringify({ event: ["start"] }));
  const request = http.get({ socketPath: socket, path: `/events?filters=${filters}` }, (response) => {
    let text = "";
    response.on("data", (chunk) => {
      text += chunk;
      const lines = text.split("\n");
      text = lines.pop();
      for (const line of lines.filter(Boolean)) {
        const event = JSON.parse(line);
        times.set(event.Actor.Attributes.name, event.timeNano / 1e6);
      }
    });
    response.on("error", () => undefined);
  });
  request.on("error", () => undefined);
  return { times, close: () => request.destroy() };
}

/** Notes in the page when each row is first seen as running, and what the engine's state was when. */
const recorder = () => {
  window.berthSeen = {};
  window.berthStates = [];
  const note = () => {
    for (const row of document.querySelectorAll("[data-testid=container-row][data-state=running]")) {
      window.berthSeen[row.dataset.name] ??= performance.timeOrigin + performance.now();
    }
    const state = document.querySelector("[data-testid=engine-state]")?.dataset.state;
    if (state !== window.berthStates.at(-1)?.state) {
      window.berthStates.push({ state, at: performance.timeOrigin + performance.now() });
    }
  };
  new MutationObserver(note).observe(document, { subtree: true, childList: true, attributes: true });
  note();
};

function dockerdOf(data) {
  return readdirSync("/proc").find((pid) => {
    try {
      return readFileSync(`/proc/${pid}/comm`, "utf8") === "dockerd\n"
        && readFileSync(`/proc/${pid}/mountinfo`, "utf8").includes(data);
    } catch {
      return false;
    }
  });
}

const engine = await startEngine();
const serve = await startServe("--data", engine.data);
const browser = await chromium.launch(chromiumOptions);
try {
  const page = await browser.newPage({ viewport: { width: 1280, height: 800 } });
  await page.goto(serve.link);
  await page.locator("[data-testid=engine-state][data-state=ready]").waitFor();
  await page.evaluate(recorder);
  console.log("\nStart event to row, 30 containers one after the other");
  const events = startEvents(engine.socket);
  await sleep(200);
  for (let i = 0; i < 30; i++) {
    // One at a time, for the list shows only the rows that are on screen.
    const id = await engine.container(`live-${i}`, ["sleep", "3600"]);
    await page.waitForFunction((name) => name in window.berthSeen, `live-${i}`);
    await engine.api("DELETE", `/containers/${id}?force=1`);
  }
  await engine.container("survivor", ["sleep", "3600"]);
  const seen = await page.evaluate(() => window.berthSeen);
  const delays = [...events.times].filter(([name]) => name in seen).map(([name, at]) => seen[name] - at);
  say("p50 / p95 / max ms", [0.5, 0.95, 1].map((share) => percentile(delays, share).toFixed(0)).join(" / "));

  console.log("\nkill -9 of dockerd, three times");
  for (let i = 0; i < 3; i++) {
    const pid = dockerdOf(engine.data);
    await page.evaluate(() => (window.berthStates.length = 0));
    const killed = Date.now();
    process.kill(Number(pid), "SIGKILL");
    await page.waitForFunction(() => window.berthStates.some(({ state }) => state === "lost"));
    await page.locator("[data-testid=engine-state][data-state=ready]").waitFor();
    await page.waitForFunction(() => window.berthStates.at(-1).state === "ready");
    const states = await page.evaluate(() => window.berthStates);
    const rows = await page.locator("[data-testid=container-row][data-state=running]").count();
    const at = (state) => states.find((entry) => entry.state === state).at - killed;
    say("said so after / live again after ms", `${at("lost").toFixed(0)} / ${at("ready").toFixed(0)}`);
    say("rows running afterwards (on screen)", rows);
    await sleep(1000);
  }
  events.close();
  await engine.clear();
  await page.close();

  console.log(`\n${total} containers, ${running} running`);
  const names = Array.from({ length: total }, (_, i) => `c-${String(i).padStart(4, "0")}`);
  for (let i = 0; i < names.length; i += 4) {
    await Promise.all(
      names.slice(i, i + 4).map((name, j) =>
        engine.container(name, ["sleep", "3600"], {
          start: i + j < running,
          labels: (i + j) % 3 ? {} : { "com.docker.compose.project": `project-${Math.floor(i / 30)}` },
        }),
      ),
    );
  }
  await sleep(3000);
  const fresh = await browser.newPage({ viewport: { width: 1280, height: 800 } });
  await fresh.addInitScript(() => {
    new MutationObserver((_, observer) => {
      if (!document.querySelector("[data-testid=container-row]")) return;
      observer.disconnect();
      requestAnimationFrame(() => requestAnimationFrame(() => (window.berthPainted = performance.now())));
    }).observe(document, { childList: true, subtree: true });
  });
  const painted = [];
  for (let i = 0; i < 5; i++) {
    await fresh.goto(i ? serve.url : serve.link);
    await fresh.reload();
    await fresh.waitForFunction(() => window.berthPainted);
    painted.push(await fresh.evaluate(() => window.berthPainted));
  }
  say("first rows painted, navigation to paint, median ms", percentile(painted, 0.5).toFixed(0));

  const cached = await fresh.evaluate(async () => {
    const times = [];
    const call = async (client, cmd, payload) => {
      const response = await fetch("/rpc", {
        method: "POST",
        headers: { "Content-Type": "application/json", "X-Berth-Page": sessionStorage.getItem("berth.page") },
        body: JSON.stringify({ cmd, payload, client }),
      });
      return response.json();
    };
    let rows = 0;
    for (let i = 0; i < 20; i++) {
      const client = crypto.randomUUID();
      const begun = performance.now();
      await call(client, "world_open", {});
      const { frames } = await call(client, "session_poll", { acks: [], maxBytes: 1048576, waitMilliseconds: 1000 });
      times.push(performance.now() - begun);
      rows = frames[0].body.data.containers.length;
    }
    return { times, rows };
  });
  say(`whole list of ${cached.rows} from the cache, p50 / p95 ms`,
    `${percentile(cached.times, 0.5).toFixed(1)} / ${percentile(cached.times, 0.95).toFixed(1)}`);

  const socket = engine.socket;
  const cli = [];
  for (let i = 0; i < 5; i++) {
    const begun = performance.now();
    await run("docker", ["-H", `unix://${socket}`, "ps", "-a"], { maxBuffer: 64 << 20 }).catch(() => undefined);
    cli.push(performance.now() - begun);
  }
  say("docker ps -a on the same engine, median ms", percentile(cli, 0.5).toFixed(0));

  const frames = await fresh.evaluate(async () => {
    const row = document.querySelector("[data-testid=container-row]");
    let scroller = row.parentElement;
    while (scroller && scroller.scrollHeight <= scroller.clientHeight + 1) scroller = scroller.parentElement;
    const gaps = [];
    let last = performance.now();
    for (let i = 0; i < 300; i++) {
      scroller.scrollTop += 120;
      await new Promise(requestAnimationFrame);
      const now = performance.now();
      gaps.push(now - last);
      last = now;
    }
    return { gaps, blank: document.querySelectorAll("[data-testid=container-row]").length };
  });
  say("scrolling 36,000 px: frame p50 / p95 / max ms",
    [0.5, 0.95, 1].map((share) => percentile(frames.gaps, share).toFixed(1)).join(" / "));
  say("rows in the page at once", frames.blank);
  const memory = /^Pss:\s+(\d+)/m.exec(readFileSync(`/proc/${serve.pid}/smaps_rollup`, "utf8"));
  say("berth serve PSS MB", (Number(memory[1]) / 1024).toFixed(1));
  const ticks = () => readFileSync(`/proc/${serve.pid}/stat`, "utf8").split(") ")[1].split(" ").slice(11, 13).reduce((a, b) => a + Number(b), 0);
  const before = ticks();
  await sleep(10_000);
  say("berth serve CPU idle, page open, % of a core", (((ticks() - before) / 100 / 10) * 100).toFixed(2));
} finally {
  await browser.close();
  await serve.stop();
  await engine.stop();
}
