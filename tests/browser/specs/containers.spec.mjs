import AxeBuilder from "@axe-core/playwright";

import { expect, row, test } from "../fixtures.mjs";

test("an empty engine says what to do first", async ({ berth }) => {
  await expect(berth.getByTestId("empty-state")).toHaveAttribute("data-kind", "nothing-yet");
});

test("containers appear, change and go as the engine says, without a reload", async ({ berth, engine }) => {
  const id = await engine.container("web", ["sleep", "600"]);
  await expect(row(berth, "web")).toHaveAttribute("data-state", "running");
  await engine.api("POST", `/containers/${id}/pause`);
  await expect(row(berth, "web")).toHaveAttribute("data-state", "paused");
  await engine.api("POST", `/containers/${id}/unpause`);
  await engine.api("POST", `/containers/${id}/rename?name=shop`);
  await expect(row(berth, "shop")).toHaveAttribute("data-state", "running");
  await engine.api("DELETE", `/containers/${id}?force=1`);
  await expect(row(berth, "shop")).toHaveCount(0);
});

test("a container is stopped and started by key", async ({ berth, engine }) => {
  const id = await engine.container("web", ["sleep", "600"]);
  await row(berth, "web").click();
  await berth.keyboard.press("s");
  await expect(row(berth, "web")).toHaveAttribute("data-state", "exited");
  expect((await engine.api("GET", `/containers/${id}/json`)).State.Running).toBe(false);
  await berth.keyboard.press("s");
  await expect(row(berth, "web")).toHaveAttribute("data-state", "running");
});

test("many are selected, stopped and deleted together", async ({ berth, engine }) => {
  for (const name of ["one", "two", "three"]) await engine.container(name, ["sleep", "600"]);
  await expect(berth.getByTestId("container-row")).toHaveCount(3);
  await row(berth, "one").click();
  await berth.keyboard.press("a");
  const bar = berth.getByTestId("bulk-bar");
  await expect(bar).toContainText("3");
  await bar.getByRole("button", { name: /stop/i }).click();
  for (const name of ["one", "two", "three"]) await expect(row(berth, name)).toHaveAttribute("data-state", "exited");
  await bar.getByRole("button", { name: /delete/i }).click();
  const dialog = berth.getByTestId("confirm-dialog");
  for (const name of ["one", "two", "three"]) await expect(dialog).toContainText(name);
  await dialog.getByRole("button", { name: /delete 3 containers/i }).click();
  await expect(berth.getByTestId("container-row")).toHaveCount(0);
  expect(await engine.api("GET", "/containers/json?all=1")).toEqual([]);
});

test("the filter finds by token and says what it hides", async ({ berth, engine }) => {
  await engine.container("shop-web", ["sleep", "600"], { labels: { "com.docker.compose.project": "shop" } });
  await engine.container("shop-job", ["true"], { labels: { "com.docker.compose.project": "shop" } });
  await engine.container("other", ["sleep", "600"]);
  await expect(berth.getByTestId("container-row")).toHaveCount(3);
  await berth.keyboard.press("/");
  await berth.getByTestId("filter").locator("input").or(berth.locator("input[data-testid=filter]")).first()
    .fill("project:shop is:running");
  await expect(berth.getByTestId("container-row")).toHaveCount(1);
  await expect(row(berth, "shop-web")).toBeVisible();
  await expect(berth.getByTestId("row-count")).toContainText(/1\D+3/);
  await berth.locator("input").first().fill("name:nothing-like-this");
  await expect(berth.getByTestId("empty-state")).toHaveAttribute("data-kind", "no-match");
  await berth.reload();
  await expect(berth.getByTestId("empty-state")).toHaveAttribute("data-kind", "no-match");
});

test("what the engine refuses is said in the row, with the way out", async ({ berth, engine }) => {
  const id = await engine.container("broken", ["/no/such/program"], { start: false });
  await row(berth, "broken").click();
  await berth.keyboard.press("s");
  await expect(berth.getByTestId("row-error")).toContainText(/no such file|not found/i);
  expect((await engine.api("GET", `/containers/${id}/json`)).State.Running).toBe(false);
});

test("hostile names and labels stay text", async ({ berth, engine }) => {
  const evil = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>";
  await engine.container("evil", ["sh", "-c", `echo '${evil.replaceAll("'", "")}'; sleep 600`], {
    labels: {
      "com.docker.compose.project": evil,
      "com.docker.compose.service": evil,
      __proto__x: evil,
      constructor: evil,
      "\u202Eeman": "\u202Edetrever",
    },
    Env: [`EVIL=${evil}`],
    Hostname: "evil",
  });
  const title = await berth.title();
  await row(berth, "evil").click();
  await berth.getByTestId("tab-overview").click();
  await expect(berth.getByTestId("detail")).toContainText("<img src=x");
  await berth.getByTestId("tab-logs").click();
  await expect(berth.getByTestId("log-line").first()).toContainText("<img src=x");
  expect(await berth.title()).toBe(title);
  expect(await berth.locator("img[src=x]").count()).toBe(0);
});

test("what is in the environment is shown only to who asks", async ({ berth, engine }) => {
  await engine.container("web", ["sleep", "600"], { Env: ["SECRET=marker 1"] });
  await row(berth, "web").click();
  await berth.getByTestId("tab-overview").click();
  const detail = berth.getByTestId("detail");
  await expect(detail).toContainText("--env SECRET=••••••••");
  await expect(detail).not.toContainText("marker");
  await detail.getByRole("button", { name: "Show the value of SECRET" }).click();
  await expect(detail.getByText("marker 1")).toHaveCount(1);
  await detail.getByRole("button", { name: "Show the values in the command" }).click();
  await expect(detail).toContainText("--env SECRET='marker 1'");
  await detail.getByRole("button", { name: "Hide the values in the command" }).click();
  await expect(detail).toContainText("--env SECRET=••••••••");
});

test("every state of the page is accessible", async ({ berth, engine }) => {
  const scan = async (what) => {
    const { violations } = await new AxeBuilder({ page: berth }).analyze();
    expect(violations.map(({ id, nodes }) => `${what}: ${id} ${nodes[0]?.html}`)).toEqual([]);
  };
  await scan("empty");
  await engine.container("web", ["sh", "-c", "echo hello; sleep 600"], { Env: ["SECRET=1"] });
  await engine.container("gone", ["false"]);
  await expect(row(berth, "gone")).toHaveAttribute("data-state", "exited");
  for (const theme of ["light", "dark"]) {
    await berth.emulateMedia({ colorScheme: theme });
    await row(berth, "web").click();
    await berth.getByTestId("tab-overview").click();
    await scan(`overview ${theme}`);
    await berth.getByTestId("tab-logs").click();
    await expect(berth.getByTestId("log-line").first()).toBeVisible();
    await scan(`logs ${theme}`);
  }
});
