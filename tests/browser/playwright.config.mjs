import { defineConfig } from "@playwright/test";

import { chromiumOptions } from "../support/chromium.mjs";

export default defineConfig({
  testDir: "specs",
  outputDir: "artifacts",
  workers: 1,
  timeout: 60_000,
  expect: { timeout: 15_000 },
  reporter: [["list"]],
  use: {
    viewport: { width: 1280, height: 800 },
    trace: "retain-on-failure",
    screenshot: "only-on-failure",
    launchOptions: chromiumOptions,
  },
});
