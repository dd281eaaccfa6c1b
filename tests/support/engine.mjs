// A throwaway bundled engine for tests that drive a page, and the few Engine API calls they need.
import { execFile, spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import http from "node:http";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const run = promisify(execFile);
const top = resolve(dirname(fileURLToPath(import.meta.url)), "../..");
const target = process.env.CARGO_TARGET_DIR ?? join(top, "target");

export const berth = process.env.BERTH_BIN ?? join(target, "debug/berth");
export const desktop = process.env.BERTH_DESKTOP ?? join(target, "debug/berth-desktop");
export const fakeEngine = join(target, "debug/fake-engine");

/** One call of the Engine API over its socket. */
export function api(socket, method, path, body) {
  return new Promise((fulfil, reject) => {
    const raw = body instanceof Buffer;
    const payload = body === undefined ? undefined : raw ? body : Buffer.from(JSON.stringify(body));
    const headers = payload && {
      "Content-Type": raw ? "application/x-tar" : "application/json",
      "Content-Length": payload.length,
    };
    const request = http.request({ socketPath: socket, method, path: `/v1.41${path}`, headers }, (response) => {
      const chunks = [];
      response.on("data", (chunk) => chunks.push(chunk));
      response.on("error", reject);
      response.on("end", () => {
        const text = Buffer.concat(chunks).toString();
        if ((response.statusCode ?? 500) >= 400) {
          reject(new Error(`${method} ${path}: ${response.statusCode} ${text}`));
          return;
        }
        try {
          fulfil(text ? JSON.parse(text) : undefined);
        } catch {
          fulfil(text);
        }
      });
    });
    request.on("error", reject);
    request.end(payload);
  });
}

/** A root file system with busybox, as a tar archive. */
export async function busyboxArchive() {
  const folder = await mkdtemp(join(tmpdir(), "berth-image-"));
  try {
    const script = `
      mkdir -p root/bin root/etc root/tmp root/proc root/sys root/dev root/www
      cp "$(command -v busybox)" root/bin/busybox
      for applet in sh sleep echo seq printf cat date httpd usleep trap true false yes; do ln -s busybox root/bin/$applet; done
      echo 'root:x:0:0:root:/:/bin/sh' > root/etc/passwd
      tar --numeric-owner -c -C root .`;
    const { stdout } = await run("sh", ["-ec", script], { cwd: folder, encoding: "buffer", maxBuffer: 64 << 20 });
    return stdout;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Starts an engine of its own in a folder of its own, with more options of `berth engine start` where they are given. */
export async function startEngine(...options) {
  const data = await mkdtemp(join(tmpdir(), "berth-test-"));
  await run(berth, ["engine", "start", "--data", data, ...options], { timeout: 300_000 });
  const socket = (await run(berth, ["engine", "socket", "--data", data])).stdout.trim();
  await api(socket, "POST", "/images/create?fromSrc=-&repo=busybox&tag=test", await busyboxArchive());
  const status = async () => JSON.parse((await run(berth, ["engine", "status", "--json", "--data", data])).stdout);
  return {
    data,
    socket,
    status,
    /** What `berth engine WORDS…` says. */
    engine: async (...words) => (await run(berth, ["engine", ...words, "--data", data], { timeout: 300_000 })).stdout,
    api: (method, path, body) => api(socket, method, path, body),
    /** Creates a container, started unless told otherwise; gives its id. */
    async container(name, command, options = {}) {
      const { start = true, labels = {}, ...rest } = options;
      const created = await api(socket, "POST", `/containers/create?name=${encodeURIComponent(name)}`, {
        Image: "busybox:test",
        Cmd: command,
        Labels: labels,
        StopTimeout: 1,
        HostConfig: { NetworkMode: "none" },
        ...rest,
      });
      if (start) await api(socket, "POST", `/containers/${created.Id}/start`);
      return created.Id;
    },
    async clear() {
      const all = await api(socket, "GET", "/containers/json?all=1");
      await Promise.all(
        all.map((one) => api(socket, "DELETE", `/containers/${one.Id}?force=1`).catch(() => undefined)),
      );
    },
    async stop() {
      await run(berth, ["engine", "stop", "--data", data], { timeout: 120_000 });
      await rm(data, { recursive: true, force: true });
    },
  };
}

/** Starts `berth serve` and waits for the line that says where it is. */
export function startServe(...options) {
  return serveBy([berth], options);
}

/** The same without root's rights, for what only other users are refused. */
export function startServeAsNobody(...options) {
  const drop = process.getuid() === 0 ? ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"] : [];
  return serveBy([...drop, berth], options);
}

async function serveBy(command, options) {
  const [program, ...words] = [...command, "serve", "--json", ...options];
  const child = spawn(program, words, { stdio: ["ignore", "pipe", "pipe"] });
  let log = "";
  child.stderr.on("data", (chunk) => (log = (log + chunk).slice(-64 * 1024)));
  const line = await new Promise((fulfil, reject) => {
    let text = "";
    child.stdout.on("data", (chunk) => {
      text += chunk;
      if (text.includes("\n")) fulfil(text.split("\n", 1)[0]);
    });
    child.on("exit", (code) => reject(new Error(`berth serve ended with ${code}:\n${log}`)));
    child.on("error", reject);
  });
  const { url, token } = JSON.parse(line);
  return {
    url,
    token,
    link: `${url}/#t=${token}`,
    pid: child.pid,
    log: () => log,
    async stop() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const ended = new Promise((fulfil) => child.once("exit", fulfil));
      child.kill("SIGTERM");
      await ended;
    },
  };
}
