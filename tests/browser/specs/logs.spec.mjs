import { expect, row, test } from "../fixtures.mjs";

async function openLogs(page, name) {
  await row(page, name).click();
  await page.getByTestId("tab-logs").click();
}

test("a log is followed, with colours and without its escapes", async ({ berth, engine }) => {
  await engine.container("talker", [
    "sh",
    "-c",
    "printf '\\033[31mred\\033[0m \\033[2J\\033]52;c;ZXZpbA==\\007plain\\n'; i=0; while true; do i=$((i+1)); echo tick $i; sleep 1; done",
  ]);
  await openLogs(berth, "talker");
  const first = berth.getByTestId("log-line").first();
  await expect(first).toContainText("red plain");
  await expect(first).not.toContainText("[31m");
  await expect(berth.getByTestId("log-line").filter({ hasText: "tick 3" })).toBeVisible();
});

test("both streams of a container and the raw stream of a terminal are told apart", async ({ berth, engine }) => {
  await engine.container("plain", ["sh", "-c", "echo to out; echo to err >&2; sleep 600"]);
  await engine.container("terminal", ["sh", "-c", "echo on a terminal; sleep 600"], { Tty: true });
  await openLogs(berth, "plain");
  await expect(berth.getByTestId("log-line").filter({ hasText: "to out" })).toBeVisible();
  await expect(berth.getByTestId("log-line").filter({ hasText: "to err" })).toBeVisible();
  await openLogs(berth, "terminal");
  await expect(berth.getByTestId("log-line").filter({ hasText: "on a terminal" })).toBeVisible();
});

test("the log goes on after a restart, without a doubled line", async ({ berth, engine }) => {
  const id = await engine.container("phoenix", ["sh", "-c", "echo born; trap 'exit 0' TERM; while true; do sleep 0.1; done"]);
  await openLogs(berth, "phoenix");
  await expect(berth.getByTestId("log-line").filter({ hasText: "born" })).toHaveCount(1);
  await engine.api("POST", `/containers/${id}/restart?t=1`);
  await expect(berth.getByTestId("log-line").filter({ hasText: "born" })).toHaveCount(2);
});

test("search counts its hits, scrolling up pauses", async ({ berth, engine }) => {
  await engine.container("chatter", ["sh", "-c", "seq 1 2000; while true; do sleep 0.2; echo more; done"]);
  await openLogs(berth, "chatter");
  await expect(berth.getByTestId("log-line").filter({ hasText: "more" }).first()).toBeVisible();
  await berth.getByTestId("log-line").last().hover();
  await berth.mouse.wheel(0, -4000);
  await expect(berth.getByTestId("log-pill")).toBeVisible();
  await berth.getByTestId("log-pill").click();
  await expect(berth.getByTestId("log-pill")).toBeHidden();
});
