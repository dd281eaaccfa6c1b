// The real window, driven through tauri-driver and WebKitWebDriver.
import { spawn } from "node:child_process";
import { createServer } from "node:net";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

import { Builder, By, Capabilities } from "selenium-webdriver";

import { desktop } from "../support/engine.mjs";

const top = resolve(dirname(fileURLToPath(import.meta.url)), "../..");
const driverProgram =
  process.env.BERTH_TAURI_DRIVER ?? join(process.env.CARGO_TARGET_DIR ?? join(top, "target"), "tools/bin/tauri-driver");

const freePort = () =>
  new Promise((fulfil) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => fulfil(port));
    });
  });

/** Opens the window with these arguments. */
export async function openWindow(...args) {
  const [port, native] = [await freePort(), await freePort()];
  const driver = spawn(driverProgram, ["--port", String(port), "--native-port", String(native)], {
    stdio: ["ignore", "inherit", "inherit"],
    detached: true,
  });
  const capabilities = new Capabilities();
  capabilities.set("browserName", "wry");
  capabilities.set("tauri:options", { application: desktop, args });
  let window;
  for (let tries = 0; ; tries++) {
    try {
      window = await new Builder().withCapabilities(capabilities).usingServer(`http://127.0.0.1:${port}/`).build();
      break;
    } catch (error) {
      if (tries > 40) throw error;
      await new Promise((fulfil) => setTimeout(fulfil, 250));
    }
  }
  return {
    window,
    find: (testId) => window.findElement(By.css(`[data-testid="${testId}"]`)),
    row: (name) => window.findElement(By.css(`[data-testid="container-row"][data-name="${name}"]`)),
    /** Waits until the condition holds; fails with its name. */
    async until(what, condition, milliseconds = 20_000) {
      await window.wait(
        async () => {
          try {
            return await condition();
          } catch {
            return false;
          }
        },
        milliseconds,
        `never saw: ${what}`,
      );
    },
    async quit() {
      await window.quit().catch(() => undefined);
      try {
        process.kill(-driver.pid);
      } catch {
        // It ended with the window.
      }
    },
  };
}
