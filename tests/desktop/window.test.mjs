import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { after, before, describe, it } from "node:test";

import { Key } from "selenium-webdriver";

import { desktop, startEngine } from "../support/engine.mjs";
import { openWindow } from "./window.mjs";

describe("the window", { timeout: 240_000 }, () => {
  let engine, berth;
  before(async () => {
    engine = await startEngine();
    await engine.container("talker", ["sh", "-c", "i=0; while true; do i=$((i+1)); echo tick $i; sleep 0.2; done"]);
    berth = await openWindow("--data", engine.data);
  });
  after(async () => {
    await berth?.quit();
    await engine?.stop();
  });

  const state = async (name) => (await berth.row(name)).getAttribute("data-state");

  it("lists what the engine runs and follows it live", async () => {
    await berth.until("the container runs", async () => (await state("talker")) === "running");
    await engine.container("late", ["sleep", "600"]);
    await berth.until("the new container", async () => (await state("late")) === "running");
  });

  it("shows the log", async () => {
    await (await berth.row("talker")).click();
    await (await berth.find("tab-logs")).click();
    await berth.until("a log line", async () => /tick \d/.test(await (await berth.find("log-line")).getText()));
  });

  it("keeps to the fast path of its transport", async () => {
    const answer = await berth.window.executeAsyncScript(`
      const done = arguments[arguments.length - 1];
      fetch("ipc://localhost/no-such-command", { method: "POST", body: "{}" }).then(() => done("answered"), (error) => done(String(error)));
    `);
    assert.equal(answer, "answered", "the policy lets the page reach the ipc protocol, so calls need no fall-back");
  });

  it("stops a container by key", async () => {
    await (await berth.row("late")).click();
    await berth.window.actions().sendKeys("s").perform();
    await berth.until("it stopped", async () => (await state("late")) === "exited");
  });

  it("never leaves its own page", async () => {
    const before = await berth.window.getCurrentUrl();
    await berth.window.executeScript("location.href = 'http://127.0.0.1:9/'");
    await new Promise((fulfil) => setTimeout(fulfil, 500));
    assert.equal((await berth.window.getCurrentUrl()).split("#")[0], before.split("#")[0]);
  });

  it("may be killed: containers go on, and a new window finds them", async () => {
    execFileSync("pkill", ["-KILL", "-f", `^${desktop}`]);
    await berth.quit();
    const talker = await engine.api("GET", "/containers/talker/json");
    assert.equal(talker.State.Running, true);
    berth = await openWindow("--data", engine.data);
    await berth.until("the container runs", async () => (await state("talker")) === "running");
    await berth.window.actions().sendKeys(Key.ESCAPE).perform();
  });
});
