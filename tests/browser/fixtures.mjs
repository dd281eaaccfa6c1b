import { test as base, expect } from "@playwright/test";

import { startEngine, startServe } from "../support/engine.mjs";

/** Every worker has an engine and a server of its own; every test begins with an engine that is empty. */
export const test = base.extend({
  engine: [
    // eslint-disable-next-line no-empty-pattern
    async ({}, use) => {
      const engine = await startEngine();
      await use(engine);
      await engine.stop();
    },
    { scope: "worker", timeout: 180_000 },
  ],
  serve: [
    async ({ engine }, use) => {
      const serve = await startServe("--data", engine.data);
      await use(serve);
      await serve.stop();
    },
    { scope: "worker" },
  ],
  /** Berth's page, open and live. */
  berth: async ({ page, engine, serve }, use) => {
    await engine.clear();
    const complaints = [];
    page.on("console", (message) => {
      if (message.type() === "error" || /Content Security Policy/i.test(message.text())) complaints.push(message.text());
    });
    page.on("pageerror", (error) => complaints.push(String(error)));
    await page.goto(serve.link);
    await expect(page.getByTestId("engine-state")).toHaveAttribute("data-state", "ready");
    await use(page);
    expect(complaints, "the page complained about nothing").toEqual([]);
  },
});

export { expect };

export const row = (page, name) => page.locator(`[data-testid=container-row][data-name="${name}"]`);
