// Measures what the engine's machine costs and what it gives back: starts, memory after a workload of 2 GB, disk after a prune.
//   cargo xtask bench machine [start|memory|disk]…
// A run of everything writes its section into docs/benchmarks.md.
import { execFile } from "node:child_process";
import { loadavg } from "node:os";
import { promisify } from "node:util";

import { startEngine } from "../support/engine.mjs";
import { writeSection } from "../support/report.mjs";

const run = promisify(execFile);
const docker = process.env.BERTH_DOCKER ?? "docker";
const wanted = process.argv.slice(2);
const is = (work) => wanted.length === 0 || wanted.includes(work);
const MACHINE = ["--backend", "qemu", "--memory", "4096", "--cpus", "2", "--disk", "16", "--share", "none"];
const STARTS = 3;
/** How long memory is watched after the workload, and how often. */
const WATCHED_S = 90;
const EVERY_S = 5;

const lines = [];
const print = (line) => {
  lines.push(line);
  console.log(line);
};
const pause = (seconds) => new Promise((fulfil) => setTimeout(fulfil, seconds * 1000));
const mib = (bytes) => Math.round(bytes / 1048576);

async function starts(engine) {
  print(`\n### Starts (load ${loadavg()[0].toFixed(1)})\n`);
  print("| start | to an answer on the public socket, ms | its stages, ms | stop, ms |");
  print("| --- | ---: | --- | ---: |");
  for (let number = 1; number <= STARTS; number++) {
    let began = Date.now();
    await engine.engine("stop");
    const stopped = Date.now() - began;
    began = Date.now();
    await engine.engine("start");
    const answered = Date.now() - began;
    const { stages } = await engine.status();
    const told = stages.map(({ name, milliseconds }) => `${name} ${Math.round(milliseconds ?? 0)}`);
    print(`| ${number} | ${answered} | ${told.join(", ")} | ${stopped} |`);
  }
}

const metrics = async (engine) => JSON.parse(await engine.engine("metrics"));

async function memory(engine) {
  await pause(30);
  const idle = (await metrics(engine)).memory_host_bytes;
  print(`\n### Memory after a workload of 2 GB (load ${loadavg()[0].toFixed(1)})\n`);
  // A gigabyte of files, which the machine keeps in its memory, and one of a program's own.
  const work =
    "yes | busybox head -c 1073741824 > /files/big && busybox head -c 1073741824 /dev/zero | busybox tail -c 1073741824 > /dev/null";
  const id = await engine.container("workload", ["sh", "-c", work], {
    HostConfig: { NetworkMode: "none", Binds: ["files:/files"] },
  });
  await engine.api("POST", `/containers/${id}/wait`);
  const busy = (await metrics(engine)).memory_host_bytes;
  print(`Idle ${mib(idle)} MiB of the host's memory, at the end of the workload ${mib(busy)} MiB.\n`);
  print("| s after its end | MiB of the host's memory | above idle |");
  print("| ---: | ---: | ---: |");
  const began = Date.now();
  while (Date.now() - began < WATCHED_S * 1000) {
    await pause(EVERY_S);
    const now = (await metrics(engine)).memory_host_bytes;
    print(`| ${Math.round((Date.now() - began) / 1000)} | ${mib(now)} | ${mib(now - idle)} |`);
  }
}

async function disk(engine) {
  print(`\n### Disk after \`docker system prune\` (load ${loadavg()[0].toFixed(1)})\n`);
  const made = await engine.container(
    "leftover",
    ["sh", "-c", "yes | busybox head -c 734003200 > /big; cat /big /big > /bigger"],
    {},
  );
  await engine.api("POST", `/containers/${made}/wait`);
  await pause(20);
  const before = await metrics(engine);
  const { stdout } = await run(docker, ["-H", `unix://${engine.socket}`, "system", "prune", "--force"]);
  const told = stdout.trim().split("\n").at(-1);
  let after = await metrics(engine);
  const began = Date.now();
  const used = (what) => what.disk_total_bytes - what.disk_free_bytes;
  // Nobody asks for it: the machine sees by itself that there is something to give back.
  while (
    before.disk_host_bytes - after.disk_host_bytes < 0.5 * (used(before) - used(after)) &&
    Date.now() - began < 120_000
  ) {
    await pause(1);
    after = await metrics(engine);
  }
  const freed = used(before) - used(after);
  const given = before.disk_host_bytes - after.disk_host_bytes;
  print(
    "| docker says | the machine's file system freed, MiB | its disk on the host fell by, MiB | of what was freed | after, s |",
  );
  print("| --- | ---: | ---: | ---: | ---: |");
  print(
    `| ${told} | ${mib(freed)} | ${mib(given)} | ${(given / freed).toFixed(3)} | ${Math.round((Date.now() - began) / 1000)} |`,
  );
}

const engine = await startEngine(...MACHINE);
try {
  const { accelerator } = await engine.status();
  print(`\nMachine: ${MACHINE.join(" ")}; ${accelerator?.name}: ${accelerator?.why}`);
  if (is("start")) await starts(engine);
  if (is("memory")) await memory(engine);
  if (is("disk")) await disk(engine);
  if (wanted.length === 0) {
    const intro = [
      "What `cargo xtask bench machine` printed. The goals: at most 15 s from a cold start to an answer under emulation; the host's",
      "memory within 150 MB of its idle figure 30 s after a workload; allocated bytes of the disk fall by what a prune freed, within 2 %.",
    ];
    await writeSection("## The engine's machine", intro, lines);
  }
} finally {
  await engine.stop();
}
