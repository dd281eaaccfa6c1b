// Measures Berth's engine client beside its peers: the same work on the same engine in the same run, in turns (ABAB).
//   cargo xtask bench engine [list|logs|pings|archive|stats]…
// Wall and processor time are of the client's process; the engine's own cost is what `raw` shows. Every round is run by each
// client before the next round begins, so that what else the machine does falls on all of them.
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { loadavg } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { startEngine } from "../support/engine.mjs";

const run = promisify(execFile);
const here = dirname(fileURLToPath(import.meta.url));
const target = process.env.CARGO_TARGET_DIR ?? resolve(here, "../../target");
const program = join(target, "bench/release/berth-engine-bench");
const python = join(target, "bench/python/bin/python");
const rounds = Number(process.env.BERTH_BENCH_ROUNDS ?? 7);
const lines = Number(process.env.BERTH_BENCH_LINES ?? 1_000_000);
const sizes = (process.env.BERTH_BENCH_SIZES ?? "1000,5000").split(",").map(Number);
const wanted = process.argv.slice(2);

const median = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
const figure = (value) => (value >= 100 ? value.toFixed(0) : value.toPrecision(3));

/** What each client is run by. Every command prints {wall, processor, count} in milliseconds, but for the docker CLI. */
// Decoding alone is shown warm: a program that lists once a minute has its memory, one that lists once pays for it.
const ours = (client) => (work, socket, argument) => [
  program,
  [client, work, socket, work === "decode" ? "20" : "1", argument],
];
const clients = {
  raw: ours("raw"),
  berth: ours("berth"),
  bollard: ours("bollard"),
  dockerode: (work, socket, argument) => [
    process.execPath,
    [join(here, "engine-dockerode.mjs"), work, socket, argument],
  ],
  "docker-py": (work, socket, argument) => [python, [join(here, "engine-docker-py.py"), work, socket, argument]],
  "docker CLI": (work, socket, argument) => {
    const [container, path] = argument.split(":");
    const commands = {
      list: "docker ps --all --no-trunc >/dev/null",
      logs: `docker logs ${container} >/dev/null 2>&1`,
      archive: `docker cp ${container}:${path} - >/dev/null`,
      stats: "docker stats --no-stream >/dev/null",
    };
    return commands[work] && ["/bin/sh", ["-c", commands[work]]];
  },
};

async function once(client, work, socket, argument) {
  const command = clients[client](work, socket, argument);
  if (!command) return undefined;
  const began = process.hrtime.bigint();
  const { stdout } = await run(command[0], command[1], {
    env: { ...process.env, DOCKER_HOST: `unix://${socket}` },
    maxBuffer: 1 << 20,
  });
  const wall = Number(process.hrtime.bigint() - began) / 1e6;
  // A command line is measured whole, with its start: that is how it is used.
  return stdout.trim() ? JSON.parse(stdout) : { wall: [wall], processor: [], count: undefined };
}

async function compare(title, work, socket, argument = "", but = []) {
  const names = Object.keys(clients).filter((name) => !but.includes(name) && clients[name](work, socket, argument));
  const times = new Map(names.map((name) => [name, { wall: [], processor: [], count: undefined }]));
  const load = loadavg()[0];
  for (let round = 0; round < rounds; round++) {
    for (const name of names) {
      const result = await once(name, work, socket, argument);
      const time = times.get(name);
      time.wall.push(...result.wall);
      time.processor.push(...result.processor);
      time.count = result.count ?? time.count;
    }
  }
  const floor = median(times.get(names[0]).wall);
  const peer = times.get("bollard");
  console.log(`\n${title} (${rounds} rounds; load ${load.toFixed(1)} before, ${loadavg()[0].toFixed(1)} after)`);
  console.log(`| client | wall, median ms | min ms | to ${names[0]} | processor, median ms | to bollard | count |`);
  console.log("| --- | ---: | ---: | ---: | ---: | ---: | ---: |");
  for (const [name, { wall, processor, count }] of times) {
    const used = processor.length ? figure(median(processor)) : "";
    const share =
      processor.length && peer?.processor.length ? (median(processor) / median(peer.processor)).toFixed(2) : "";
    const cells = [
      name,
      figure(median(wall)),
      figure(Math.min(...wall)),
      (median(wall) / floor).toFixed(3),
      used,
      share,
    ];
    console.log(`| ${cells.join(" | ")} | ${count ?? ""} |`);
  }
}

async function many(engine, from, to) {
  const names = Array.from({ length: to - from }, (_, index) => `bench-${from + index}`);
  const labels = { "com.docker.compose.project": "bench", "com.docker.compose.service": "web" };
  const worker = async () => {
    for (let name = names.pop(); name; name = names.pop()) {
      await engine.container(name, ["sleep", "1000000"], { start: false, labels: { ...labels, name } });
    }
  };
  await Promise.all([worker(), worker(), worker(), worker()]);
}

if (!existsSync(program)) throw new Error(`${program} is not built: run \`cargo xtask bench engine\``);
const is = (work) => wanted.length === 0 || wanted.includes(work);
const engine = await startEngine();
try {
  const { socket } = engine;
  if (is("pings")) await compare("10,000 pings", "pings", socket);
  if (is("logs")) {
    const text =
      "a line of a hundred bytes and then some, as a program would write it about what it is doing right now ";
    const id = await engine.container("logs", ["sh", "-c", `yes '${text}' | head -n ${lines}`]);
    await engine.api("POST", `/containers/${id}/wait`);
    await compare(`A log of ${lines.toLocaleString("en")} lines`, "logs", socket, id);
  }
  if (is("archive")) {
    const id = await engine.container("archive", ["sh", "-c", "head -c 1073741824 /dev/zero > /tmp/gigabyte"]);
    await engine.api("POST", `/containers/${id}/wait`);
    await compare("An archive of 1 GiB", "archive", socket, `${id}:/tmp/gigabyte`);
  }
  if (is("stats")) {
    for (let index = 0; index < 50; index++) await engine.container(`stats-${index}`, ["sleep", "1000000"]);
    await compare("One sample of the statistics of 50 containers", "stats", socket, "", ["raw"]);
    for (let index = 0; index < 50; index++) await engine.api("DELETE", `/containers/stats-${index}?force=1`);
  }
  if (is("list")) {
    let made = 0;
    for (const size of sizes) {
      await many(engine, made, size);
      made = size;
      await compare(`A list of ${size.toLocaleString("en")} containers`, "list", socket);
      await compare(`The same list, decoded from memory 20 times over`, "decode", socket, "", [
        "raw",
        "dockerode",
        "docker-py",
        "docker CLI",
      ]);
    }
  }
} finally {
  await engine.stop();
}
