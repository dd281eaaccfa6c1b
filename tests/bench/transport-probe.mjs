// What runs inside the page: a pump of its own beside the page's, so that the transport is measured and not the paint.
export function probe() {
  const client = crypto.randomUUID();
  const tauri = window.__TAURI_INTERNALS__;
  const page = sessionStorage.getItem("berth.page") ?? "";
  const state = { lines: 0, dropped: 0, disorder: 0, blocked: 0, longest: 0, begun: 0, seen: new Map(), at: new Map(), expected: new Map() };

  async function call(cmd, payload, requestId) {
    const request = { cmd, payload, client, ...(requestId && { requestId }) };
    if (tauri) return tauri.invoke("rpc", { request });
    const response = await fetch("/rpc", {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-Berth-Page": page },
      body: JSON.stringify(request),
    });
    const body = await response.json();
    if (!response.ok) throw new Error(body.message);
    return body;
  }

  let socket;
  async function poll(payload) {
    if (tauri) return call("session_poll", payload);
    if (!socket) {
      socket = new WebSocket(`ws://${location.host}/ws?client=${client}`, ["berth", `page.${page}`]);
      await new Promise((fulfil) => (socket.onopen = fulfil));
    }
    return new Promise((fulfil) => {
      socket.onmessage = (event) => fulfil(JSON.parse(event.data).ok);
      socket.send(JSON.stringify(payload));
    });
  }

  async function pump() {
    let acks = [];
    for (;;) {
      const { frames } = await poll({ acks, maxBytes: 262144, waitMilliseconds: 20000 });
      const latest = new Map();
      for (const { stream, sequence, body } of frames) {
        if (sequence !== (state.expected.get(stream) ?? 1)) state.disorder++;
        state.expected.set(stream, sequence + 1);
        latest.set(stream, sequence);
        if (body.kind === "log") state.lines += body.data.lines.length;
        else if (body.kind === "gap") state.dropped += body.data.lines;
        else if (body.kind === "world") {
          for (const { id } of body.data.operations ?? []) {
            if (!state.at.has(id)) state.at.set(id, performance.now());
            state.seen.get(id)?.();
          }
        }
      }
      acks = [...latest].map(([stream, sequence]) => ({ stream, sequence }));
    }
  }

  let key;
  async function echoOnce() {
    const begun = performance.now();
    const { operation } = await call("container_restart", { container: key }, crypto.randomUUID());
    // The patch may have come before the answer.
    if (!state.at.has(operation)) await new Promise((fulfil) => state.seen.set(operation, fulfil));
    state.seen.delete(operation);
    return state.at.get(operation) - begun;
  }

  window.berthProbe = {
    async start() {
      await call("world_open", {});
      const first = document.querySelector("[data-testid=container-row]");
      key = { engine: "adopted", id: first.dataset.id };
      pump();
      let last = performance.now();
      setInterval(() => {
        const now = performance.now();
        const late = now - last - 10;
        if (late > 50) state.blocked++;
        state.longest = Math.max(state.longest, late);
        last = now;
      }, 10);
    },
    async echo(count) {
      const times = [];
      for (let i = 0; i < count; i++) times.push(await echoOnce());
      return times;
    },
    async flood() {
      state.begun = performance.now();
      state.blocked = state.longest = 0;
      await call("logs_open", { container: key, tail: 0, follow: true });
    },
    async echoFor(milliseconds) {
      const times = [];
      const end = performance.now() + milliseconds;
      while (performance.now() < end) {
        times.push(await echoOnce());
        await new Promise((fulfil) => setTimeout(fulfil, 100));
      }
      state.ended = performance.now();
      return times;
    },
    result() {
      const { lines, dropped, disorder, blocked, longest } = state;
      return { lines, dropped, disorder, blocked, longest, seconds: (state.ended - state.begun) / 1000 };
    },
    mutateAndLeave() {
      void call("container_restart", { container: key }, crypto.randomUUID());
      return true;
    },
  };
  return true;
}
