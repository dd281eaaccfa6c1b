import { execFileSync } from "node:child_process";
import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

import AxeBuilder from "@axe-core/playwright";

import { startServe, startServeAsNobody } from "../../support/engine.mjs";
import { expect, row, test } from "../fixtures.mjs";

/** The dockerd of one data folder, among all there may be on this machine. */
function dockerdOf(data) {
  const processes = execFileSync("sh", ["-c", "pgrep -x dockerd || true"]).toString().trim().split("\n");
  return processes.find((pid) => {
    try {
      return execFileSync("cat", [`/proc/${pid}/mountinfo`]).toString().includes(data);
    } catch {
      return false;
    }
  });
}

test("an engine that dies is said to be lost, its rows stay, and it comes back by itself", async ({ berth, engine }) => {
  await engine.container("survivor", ["sleep", "600"]);
  await expect(row(berth, "survivor")).toHaveAttribute("data-state", "running");
  const pid = dockerdOf(engine.data);
  expect(pid, "dockerd was found").toBeTruthy();
  // What the page says meanwhile is recorded inside the page, since it may pass faster than a test looks.
  await berth.evaluate(() => {
    const states = (window.berthStates = []);
    const element = document.querySelector("[data-testid=engine-state]");
    const note = () => states.push([element.getAttribute("data-state"), document.querySelectorAll("[data-testid=container-row]").length]);
    new MutationObserver(note).observe(element, { attributes: true });
  });
  process.kill(Number(pid), "SIGKILL");
  await expect.poll(() => berth.evaluate(() => window.berthStates.map(([state]) => state))).toContain("lost");
  await expect(berth.getByTestId("engine-state")).toHaveAttribute("data-state", "ready");
  const states = await berth.evaluate(() => window.berthStates);
  expect(states.every(([, rows]) => rows === 1), "the row never went away").toBe(true);
  await expect(row(berth, "survivor")).toHaveAttribute("data-state", "running");
  await engine.container("newcomer", ["sleep", "600"]);
  await expect(row(berth, "newcomer")).toBeVisible();
});

test("the engine has a page: how it runs, how it is reached, and it is stopped and started there", async ({ berth, engine }) => {
  await engine.container("worker", ["sleep", "600"]);
  await expect(row(berth, "worker")).toHaveAttribute("data-state", "running");
  await berth.getByTestId("engine-state").focus();
  await berth.keyboard.press("Enter");
  const page = berth.getByTestId("engine-page");
  await expect(page).toHaveAttribute("data-state", "ready");
  await expect(page).toContainText(`export DOCKER_HOST='unix://${engine.socket}'`);
  await expect(page).toContainText("Namespaces of this computer");
  await expect(page).toContainText(engine.data);
  await expect(page).toContainText("containerd");
  expect((await new AxeBuilder({ page: berth }).analyze()).violations).toEqual([]);
  await berth.reload();
  await expect(page).toHaveAttribute("data-state", "ready");

  await page.getByRole("button", { name: "Stop engine" }).click();
  const dialog = berth.getByTestId("stop-engine-dialog");
  await expect(dialog).toContainText("worker");
  await berth.keyboard.press("Escape");
  await expect(dialog).toHaveCount(0);
  expect((await engine.status()).state).toBe("ready");
  await page.getByRole("button", { name: "Stop engine" }).click();
  await dialog.getByRole("button", { name: "Stop engine" }).click();
  await expect(page).toHaveAttribute("data-state", "stopped", { timeout: 60_000 });
  // Of an engine that is stopped, the command ends with 3.
  expect(await engine.status().catch(({ stdout }) => JSON.parse(stdout))).toMatchObject({ state: "stopped" });
  expect((await new AxeBuilder({ page: berth }).analyze()).violations).toEqual([]);
  await page.getByRole("button", { name: "Start engine" }).click();
  await expect(page).toHaveAttribute("data-state", "ready", { timeout: 60_000 });
  await berth.goBack();
  await expect(row(berth, "worker")).toBeVisible();
});

test("without an engine the page says so, and why", async ({ page }) => {
  const folder = mkdtempSync(join(tmpdir(), "berth-none-"));
  const serve = await startServe("--data", folder, "--engine", `unix://${folder}/no.sock`);
  try {
    await page.goto(serve.link);
    await expect(page.getByTestId("empty-state")).toHaveAttribute("data-kind", "no-engine");
    await expect(page.getByTestId("empty-state")).toContainText(/no such file|does not answer/i);
  } finally {
    await serve.stop();
    rmSync(folder, { recursive: true, force: true });
  }
});

test("a socket that may not be opened is named as that", async ({ page }) => {
  const folder = mkdtempSync(join(tmpdir(), "berth-denied-"));
  chmodSync(folder, 0o777);
  const server = createServer();
  await new Promise((fulfil) => server.listen(join(folder, "engine.sock"), fulfil));
  chmodSync(join(folder, "engine.sock"), 0);
  const serve = await startServeAsNobody("--data", join(folder, "data"), "--engine", `unix://${folder}/engine.sock`);
  try {
    await page.goto(serve.link);
    await expect(page.getByTestId("empty-state")).toContainText(/permission/i);
    await expect(page.getByTestId("empty-state")).toContainText(/docker group/i);
  } finally {
    await serve.stop();
    server.close();
    rmSync(folder, { recursive: true, force: true });
  }
});

test("a page without the token gets nothing and says how to get in", async ({ browser, serve }) => {
  const context = await browser.newContext();
  const page = await context.newPage();
  await page.goto(serve.url);
  await expect(page.getByText(/berth serve/)).toBeVisible();
  const guess = await context.newPage();
  await guess.goto(`${serve.url}/#t=${"0".repeat(64)}`);
  await expect(guess.getByText(/berth serve/)).toBeVisible();
  await context.close();
});

test("another site can neither call nor listen", async ({ serve }) => {
  const body = JSON.stringify({ cmd: "about", payload: {}, client: "x" });
  const call = (headers) => fetch(`${serve.url}/rpc`, { method: "POST", body, headers });
  const json = { "Content-Type": "application/json" };
  const token = { Authorization: `Bearer ${serve.token}` };
  expect((await call({ ...json, ...token })).status).toBe(200);
  expect((await call(json)).status).toBe(401);
  expect((await call({ ...json, ...token, Origin: "http://evil.test" })).status).toBe(403);
  expect((await call({ ...token, "Content-Type": "text/plain" })).status).toBe(400);
});
