// dockerode doing one piece of work: engine-dockerode.mjs WORK SOCKET [ARGUMENT]
import { Writable } from "node:stream";
import { pipeline } from "node:stream/promises";

import Docker from "dockerode";

const [work, socketPath, argument = ""] = process.argv.slice(2);
const docker = new Docker({ socketPath });
const works = {
  list: async () => (await docker.listContainers({ all: true })).length,
  async pings() {
    for (let ping = 0; ping < 10_000; ping++) await docker.ping();
    return 10_000;
  },
  async logs() {
    const stream = await docker.getContainer(argument).logs({ follow: true, stdout: true, stderr: true });
    let bytes = 0;
    const sink = new Writable({
      write(chunk, _encoding, done) {
        bytes += chunk.length;
        done();
      },
    });
    docker.modem.demuxStream(stream, sink, sink);
    await new Promise((fulfil, reject) => stream.on("end", fulfil).on("error", reject));
    return bytes;
  },
  async archive() {
    const [container, path] = argument.split(":");
    const stream = await docker.getContainer(container).getArchive({ path });
    let bytes = 0;
    await pipeline(stream, async (source) => {
      for await (const chunk of source) bytes += chunk.length;
    });
    return bytes;
  },
  async stats() {
    const running = await docker.listContainers();
    const sample = ({ Id }) => docker.getContainer(Id).stats({ stream: false, "one-shot": true });
    return (await Promise.all(running.map(sample))).length;
  },
};
if (!works[work]) throw new Error(`no work ${work}`);
const used = process.cpuUsage();
const began = performance.now();
const count = await works[work]();
const { user, system } = process.cpuUsage(used);
console.log(JSON.stringify({ wall: [performance.now() - began], processor: [(user + system) / 1e3], count }));
