// Draws the pictures of docs/screenshots from a throwaway engine with a world of its own.
// Run: node tests/browser/screenshots.mjs [name ...]
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

import { chromium } from "@playwright/test";

import { chromiumOptions } from "../support/chromium.mjs";
import { startEngine, startServe } from "../support/engine.mjs";

const top = resolve(dirname(fileURLToPath(import.meta.url)), "../..");
const folder = join(top, "docs/screenshots");
const SIZES = [
  { width: 1280, height: 800 },
  { width: 1920, height: 1080 },
];
const THEMES = ["dark", "light"];
const LARGEST = 150 * 1024;
const wanted = process.argv.slice(2);

const wait = (milliseconds) => new Promise((fulfil) => setTimeout(fulfil, milliseconds));
const row = (page, name) => page.locator(`[data-testid=container-row][data-name="${name}"]`);

/** What `api` has to say: one round of it a few seconds, like a shop that is used. */
const API_LOG = String.raw`
printf '\033[1mshop api\033[0m listening on :3000\n'
say() { printf '%s %s\n' "$1" "$2"; usleep 40000; }
n=10480
i=0
while [ $i -lt 14 ]; do
  i=$((i+1)); n=$((n+1))
  say INFO "GET /api/cart 200 12 ms"
  say INFO "GET /api/products?page=$i 200 31 ms"
  say DEBUG "cache hit products:$i"
  say WARN "slow query 412 ms select * from orders where state = 'open' order by created"
  say INFO "POST /api/checkout 201 88 ms"
  say INFO "order $n created"
  [ $((i % 3)) -eq 0 ] && say ERROR "payment provider timed out after 3000 ms, order $n" && say INFO "retry in 500 ms"
  say INFO "payment accepted order $n"
  say INFO "GET /health 200 1 ms"
  say DEBUG "cache miss user:$((700+i))"
done
while true; do echo "INFO GET /health 200 1 ms"; sleep 20; done`;

/** The program of `api`, as an archive to unpack into its container. */
function programArchive() {
  const scratch = mkdtempSync(join(tmpdir(), "berth-program-"));
  try {
    mkdirSync(join(scratch, "bin"));
    writeFileSync(join(scratch, "bin/serve"), `#!/bin/sh\n${API_LOG}\n`, { mode: 0o755 });
    return execFileSync("tar", ["--numeric-owner", "-c", "-C", scratch, "bin/serve"]);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

const HOUR = ["sleep", "86400"];
const quiet = (line) => ["sh", "-c", `echo '${line}'; exec sleep 86400`];
const publish = (port, inside = port) => ({
  ExposedPorts: { [`${inside}/tcp`]: {} },
  HostConfig: { NetworkMode: "bridge", PortBindings: { [`${inside}/tcp`]: [{ HostIp: "", HostPort: String(port) }] } },
});
const checked = (command) => ({
  Healthcheck: { Test: ["CMD-SHELL", command], Interval: 2e9, Timeout: 2e9, Retries: 1, StartPeriod: 0 },
});
const restarting = { HostConfig: { NetworkMode: "none", RestartPolicy: { Name: "always" } } };

/** Project, its folder, and its containers: name, image, command, options. */
const WORLD = [
  ["shop", "/home/mara/code/shop", [
    ["web", "shop/web:dev", quiet("ready on :8080"), { ...publish(8080), ...checked("true") }],
    ["api", "shop/api:dev", ["serve", "--port", "3000"], {
      program: true,
      ...publish(3000),
      ...checked("echo ok"),
      Env: ["NODE_ENV=development", "PORT=3000", "DATABASE_URL=postgres://shop:secret@db/shop", "PAYMENT_KEY=pk_test_1"],
      WorkingDir: "/srv",
      Hostname: "api",
    }],
    ["db", "postgres:17", quiet("database system is ready to accept connections"), { ...publish(5432), ...checked("true") }],
    ["cache", "redis:7-alpine", quiet("Ready to accept connections tcp"), publish(6379)],
    ["worker", "shop/worker:dev", ["sh", "-c", "echo 'ERROR no queue'; exit 137"], restarting],
    ["mail", "axllent/mailpit", HOUR, publish(8025)],
    ["migrate", "shop/api:dev", ["sh", "-c", "echo 'INFO 14 migrations applied'"], {}],
  ]],
  ["observability", "/home/mara/code/infra/observability", [
    ["grafana", "grafana/grafana:12.0", HOUR, publish(3001)],
    ["prometheus", "prom/prometheus:v3.4", HOUR, publish(9090)],
    ["loki", "grafana/loki:3", HOUR, { ...publish(3100), ...checked("echo 'ring: no healthy instances'; exit 1") }],
  ]],
  [null, null, [
    ["registry", "registry:2", HOUR, publish(5000)],
    ["builder", "moby/buildkit:latest", HOUR, {}],
    ["old-postgres", "postgres:16", ["true"], {}],
    ["scratch", "debian:13", ["sh", "-c", "exit 130"], {}],
    ["importer", "shop/api:dev", ["sh", "-c", "exit 1"], {}],
  ]],
];

async function build(engine) {
  const tagged = new Set();
  for (const [project, home, containers] of WORLD) {
    for (const [name, image, command, options] of containers) {
      const [repository, tag = "latest"] = image.split(":");
      if (!tagged.has(image)) {
        tagged.add(image);
        await engine.api("POST", `/images/busybox:test/tag?repo=${repository}&tag=${tag}`);
      }
      const labels = project && {
        "com.docker.compose.project": project,
        "com.docker.compose.service": name,
        "com.docker.compose.project.working_dir": home,
        "com.docker.compose.project.config_files": `${home}/compose.yaml`,
      };
      const { program = false, ...rest } = options;
      const id = await engine.container(name, command, { Image: image, labels: labels ?? {}, start: !program, ...rest });
      if (program) {
        await engine.api("PUT", `/containers/${id}/archive?path=/`, programArchive());
        await engine.api("POST", `/containers/${id}/start`);
      }
      if (name === "builder") await engine.api("POST", `/containers/${id}/pause`);
    }
  }
}

const openApi = async (page, tab) => {
  await row(page, "api").click();
  await page.getByTestId(`tab-${tab}`).click();
  await wait(500);
};

/** What is done to the page before its picture is taken. */
const SCENES = {
  containers: async (page) => {
    await page.locator("[data-list]").focus();
  },
  overview: (page) => openApi(page, "overview"),
  logs: async (page) => {
    await openApi(page, "logs");
    await page.getByTestId("log-line").first().waitFor();
    await page.locator("[data-log-search]").fill("payment");
    await wait(400);
    await page.locator("[data-log-search]").press("Enter");
  },
  "delete-dialog": async (page) => {
    await row(page, "registry").click();
    await row(page, "builder").click({ modifiers: ["ControlOrMeta"] });
    await row(page, "old-postgres").click({ modifiers: ["ControlOrMeta"] });
    await page.keyboard.press("Delete");
  },
  bulk: async (page) => {
    await row(page, "web").click();
    await page.keyboard.press("Escape");
    await row(page, "cache").click({ modifiers: ["Shift"] });
    await row(page, "grafana").click({ modifiers: ["ControlOrMeta"] });
  },
  engine: async (page) => {
    await page.getByTestId("engine-state").click();
    await page.getByTestId("engine-page").waitFor();
  },
  palette: async (page) => {
    await row(page, "api").click();
    await page.keyboard.press("ControlOrMeta+k");
    await page.keyboard.type("re");
  },
};

async function picture(browser, link, name, act) {
  if (wanted.length > 0 && !wanted.includes(name)) return;
  const pictures = THEMES.flatMap((theme) => SIZES.map((viewport) => ({ theme, viewport })));
  await Promise.all(
    pictures.map(async ({ theme, viewport }) => {
      const context = await browser.newContext({ viewport, colorScheme: theme, locale: "en-US", timezoneId: "Europe/Berlin" });
      const page = await context.newPage();
      await page.goto(link);
      await page.locator("[data-testid=container-row], [data-testid=empty-state]").first().waitFor();
      await page.evaluate(() => document.fonts.ready);
      await wait(700);
      await act?.(page);
      // Nothing is pointed at, and no tooltip is left.
      await page.mouse.move(viewport.width / 2, viewport.height - 4);
      await wait(700);
      const file = join(folder, `${name}-${theme}-${viewport.width}x${viewport.height}.png`);
      await page.screenshot({ path: file });
      slim(file);
      await context.close();
    }),
  );
}

/** Pictures live in the repository, so large ones get a palette, where the machine can make one. */
function slim(file) {
  if (statSync(file).size <= LARGEST) return;
  try {
    execFileSync("convert", [file, "-strip", "+dither", "-colors", "200", `png8:${file}`]);
  } catch {
    console.error(`${file} stays large: there is no ImageMagick here`);
  }
}

mkdirSync(folder, { recursive: true });
const nowhere = mkdtempSync(join(tmpdir(), "berth-none-"));
const ends = [() => rmSync(nowhere, { recursive: true, force: true })];
try {
  const browser = await chromium.launch(chromiumOptions);
  ends.push(() => browser.close());
  const engine = await startEngine();
  ends.push(() => engine.stop());
  const serve = await startServe("--data", engine.data);
  ends.push(() => serve.stop());

  await picture(browser, serve.link, "empty");
  await build(engine);
  // The worker fails often enough to be seen restarting, and health checks have an answer.
  await wait(9_000);
  for (const [name, act] of Object.entries(SCENES)) await picture(browser, serve.link, name, act);

  const stopped = await startServe("--data", nowhere, "--no-start");
  ends.push(() => stopped.stop());
  await picture(browser, stopped.link, "no-engine");
} finally {
  for (const end of ends.reverse()) await end();
}
