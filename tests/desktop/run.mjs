// Runs the desktop tests on a display and a session bus of their own.
import { spawn, spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";

const test = fileURLToPath(new URL("window.test.mjs", import.meta.url));
const inside = ["node", "--test", "--test-reporter=spec", test];
const command = ["dbus-run-session", "--", "xvfb-run", "--auto-servernum", "--server-args=-screen 0 1920x1080x24", ...inside];
for (const program of ["dbus-run-session", "xvfb-run"]) {
  if (spawnSync("sh", ["-c", `command -v ${program}`]).status !== 0) {
    console.error(`${program} is missing. Run \`cargo xtask test desktop\`, which installs it.`);
    process.exit(1);
  }
}
spawn(command[0], command.slice(1), { stdio: "inherit" }).on("exit", (code) => process.exit(code ?? 1));
