// Measures what the engine's socket costs: the same requests to dockerd's own socket, through Berth and through socat, in the
// same run and in turns (ABAB), so that what else the machine does falls on all of them.
//   cargo xtask bench socket [kept|fresh|download|exec]…
// A run of everything writes its section into docs/benchmarks.md.
import { execFile, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { loadavg } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { startEngine } from "../support/engine.mjs";
import { writeSection } from "../support/report.mjs";

const run = promisify(execFile);
const top = resolve(dirname(fileURLToPath(import.meta.url)), "../..");
const target = process.env.CARGO_TARGET_DIR ?? join(top, "target");
const program = join(target, "bench/release/berth-socket-bench");
const docker = process.env.BERTH_DOCKER ?? "docker";
const section = "## The engine's socket";
const rounds = Number(process.env.BERTH_BENCH_ROUNDS ?? 15);
const wanted = process.argv.slice(2);
const is = (work) => wanted.length === 0 || wanted.includes(work);

const lines = [];
const print = (line) => {
  lines.push(line);
  console.log(line);
};

const at = (times, share) => [...times].sort((a, b) => a - b)[Math.floor(times.length * share)];
const figure = (value) => (value >= 1000 ? value.toFixed(0) : value.toPrecision(3));

/** How a side did beside direct: round by round, for neighbours share the machine's mood. */
const beside = (direct, times) => at(
  times.map((time, round) => direct[round] / time),
  0.5,
);

function heading(title, load) {
  print(`\n### ${title} (load ${load.toFixed(1)} before, ${loadavg()[0].toFixed(1)} after)\n`);
}

function latencies(title, load, results) {
  heading(title, load);
  print("| through | p50, µs | p95, µs | added at p50, µs | added at p95, µs |");
  print("| --- | ---: | ---: | ---: | ---: |");
  const floor = [at(results.direct, 0.5), at(results.direct, 0.95)];
  for (const [name, times] of Object.entries(results)) {
    const own = [at(times, 0.5), at(times, 0.95)];
    const added = own.map((value, index) => (name === "direct" ? "" : (value - floor[index]).toFixed(1)));
    print(`| ${[name, ...own.map((value) => value.toFixed(1)), ...added].join(" | ")} |`);
  }
}

function throughput(title, load, results, megabytes) {
  heading(title, load);
  print("| through | median, ms | min, ms | MB/s at the median | throughput to direct, median of the rounds |");
  print("| --- | ---: | ---: | ---: | ---: |");
  for (const [name, times] of Object.entries(results)) {
    const median = at(times, 0.5);
    const cells = [figure(median), figure(Math.min(...times)), (megabytes / median * 1000).toFixed(0)];
    print(`| ${[name, ...cells, beside(results.direct, times).toFixed(3)].join(" | ")} |`);
  }
}

function write() {
  const intro = [
    "What `cargo xtask bench socket` printed: the same requests to dockerd's own socket (direct), through Berth's forwarder on",
    "the native engine, and through `socat UNIX-LISTEN,fork`, in the same run and in turns (ABAB). The goals: at most 30 µs added",
    "at the median of requests on a kept connection, and at least 0.95 of the direct throughput of 1 GiB. Two cores that also run",
    "the client and dockerd, so that a third process in the path has none to itself.",
  ];
  return writeSection(section, intro, lines);
}

async function measure(work, count, path, sockets) {
  const named = Object.entries(sockets).map(([name, socket]) => `${name}=${socket}`);
  const { stdout } = await run(program, [work, String(count), path, ...named], { maxBuffer: 64 << 20 });
  const told = JSON.parse(stdout);
  for (const name of Object.keys(sockets)) {
    if (told[name].bytes !== told.direct.bytes) throw new Error(`${name}: ${told[name].bytes} bytes`);
  }
  return Object.fromEntries(Object.keys(sockets).map((name) => [name, told[name].times]));
}

/** 100 MB into a container's `cat` and back, by the docker command; fails unless every byte comes back. */
async function exec(sockets, folder) {
  const file = join(folder, "sent");
  await run("sh", ["-c", `head -c 100000000 /dev/urandom > ${file}`]);
  const results = Object.fromEntries(Object.keys(sockets).map((name) => [name, []]));
  for (let round = 0; round < rounds; round++) {
    for (const [name, socket] of Object.entries(sockets)) {
      const began = process.hrtime.bigint();
      await run("sh", ["-c", `"${docker}" -H unix://${socket} exec -i idle cat < ${file} | cmp - ${file}`]);
      results[name].push(Number(process.hrtime.bigint() - began) / 1e6);
    }
  }
  return results;
}

if (!existsSync(program)) throw new Error(`${program} is not built: run \`cargo xtask bench socket\``);
const engine = await startEngine();
const through = join(engine.data, "socat.sock");
// Its fork is paid for by each connection, not by each request.
let socat;
try {
  const direct = join(dirname(engine.socket), "guest/docker.sock");
  socat = spawn("socat", [`UNIX-LISTEN:${through},fork`, `UNIX-CONNECT:${direct}`], { stdio: "inherit" });
  socat.on("error", (error) => console.error(`socat: ${error.message}`));
  while (!existsSync(through)) await new Promise((fulfil) => setTimeout(fulfil, 20));
  const sockets = { direct, Berth: engine.socket, socat: through };

  if (is("kept")) {
    const load = loadavg()[0];
    const results = await measure("kept", 10_000, "/_ping", sockets);
    latencies("10,000 pings on a kept connection", load, results);
  }
  if (is("fresh")) {
    const load = loadavg()[0];
    const results = await measure("fresh", 2000, "/_ping", sockets);
    latencies("2,000 pings with a connection each", load, results);
  }
  if (is("download")) {
    const id = await engine.container("gigabyte", ["sh", "-c", "head -c 1073741824 /dev/zero > /gigabyte"]);
    await engine.api("POST", `/containers/${id}/wait`);
    const load = loadavg()[0];
    const times = await measure("download", rounds, `/containers/${id}/archive?path=/gigabyte`, sockets);
    const results = Object.fromEntries(
      Object.entries(times).map(([name, values]) => [name, values.map((value) => value / 1000)]),
    );
    throughput(`An archive of 1 GiB (${rounds} rounds)`, load, results, 1074);
  }
  if (is("exec")) {
    await engine.container("idle", ["sleep", "1000000"]);
    const load = loadavg()[0];
    const results = await exec(sockets, engine.data);
    throughput(`100 MB through \`docker exec -i … cat\` and back (${rounds} rounds)`, load, results, 200);
  }
  if (wanted.length === 0) await write();
} finally {
  socat?.kill();
  await engine.stop();
}
