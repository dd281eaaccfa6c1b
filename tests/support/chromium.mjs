// How Chromium is started by everything that drives it: tests, benches, pictures and the tools of `ui`.
// Playwright's own browsers are not used: the system's Chromium is what users of `berth serve` have.
export const chromiumOptions = {
  executablePath: process.env.BERTH_CHROMIUM ?? "/usr/bin/chromium",
  args: [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
  ],
};
