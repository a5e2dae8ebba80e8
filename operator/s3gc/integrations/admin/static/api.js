// The plugin's endpoints, asked with the bearer token; every failure is a Problem that says what to do.

// This module is <prefix>/console/api.js, so the endpoints are one folder above, whatever the prefix or the proxy.
const BASE = new URL("../", import.meta.url);
const TOKEN = "s3gc-token";
const TIMEOUT = 60_000;
// The server says something every 15 seconds; a stream that is silent for longer than three times that is dead,
// whatever the network pretends (a laptop that slept, a proxy that forgot).
const SILENCE = 45_000;

// The token lives as long as the tab: session storage, no cookie (so no other site can spend it), no local storage.
export const token = {
  get: () => sessionStorage.getItem(TOKEN) ?? "",
  set: (value) => sessionStorage.setItem(TOKEN, value),
  clear: () => sessionStorage.removeItem(TOKEN),
};

export class Problem extends Error {
  constructor({ status = 0, type = "", title = "", detail = "", retryAfter = 0, ...rest } = {}) {
    super(detail || title || `the server answered ${status}`);
    Object.assign(this, { status, type, title, detail, retryAfter }, rest);
  }

  get kind() {
    return this.type.replace("urn:s3gc:", "");
  }
}

export function url(path, query = {}) {
  const found = new URL(path, BASE);
  for (const [name, value] of Object.entries(query)) {
    if (value !== null && value !== undefined && value !== "") found.searchParams.set(name, value);
  }
  return found;
}

async function request(method, path, { query, body, signal, accept = "application/json", timeout = TIMEOUT, as } = {}) {
  const headers = { Accept: accept, Authorization: `Bearer ${as ?? token.get()}` };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const signals = [signal, timeout ? AbortSignal.timeout(timeout) : null].filter(Boolean);
  let response;
  try {
    response = await fetch(url(path, query), {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: signals.length ? AbortSignal.any(signals) : undefined,
      cache: "no-store",
      credentials: "same-origin",
      redirect: "error",
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Problem({ type: error.name === "TimeoutError" ? "timeout" : "network", detail: "" });
  }
  if (response.ok) return response;
  throw await problemOf(response);
}

async function problemOf(response) {
  let told = {};
  try {
    told = await response.json();
  } catch {
    // A proxy's page, or nothing: the status alone must do.
  }
  const retryAfter = Number(response.headers.get("Retry-After")) || 0;
  return new Problem({ ...(typeof told === "object" && told !== null && typeof told.status === "number" ? told : {}), status: response.status, retryAfter });
}

export async function ask(method, path, options) {
  const response = await request(method, path, options);
  return response.json();
}

export const get = (path, query, options = {}) => ask("GET", path, { query, ...options });

// Health answers 503 with a body of its own when something failed: that is an answer, not a failure.
export async function health(signal) {
  try {
    return await get("health", {}, { signal });
  } catch (problem) {
    if (problem.status === 503 && problem.vault) return { ...problem };
    throw problem;
  }
}

export async function text(path, options) {
  return (await request("GET", path, { accept: "text/html", ...options })).text();
}

// Server-sent events, read from a stream: EventSource could not send the token in a header. Yields [event, data].
export async function* events(signal) {
  const silent = new AbortController();
  let timer = setTimeout(() => silent.abort(), SILENCE);
  let reader = null;
  let rest = "";
  try {
    const response = await request("GET", "events", { accept: "text/event-stream", signal: AbortSignal.any([signal, silent.signal]), timeout: 0 });
    reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      clearTimeout(timer);
      timer = setTimeout(() => silent.abort(), SILENCE);
      rest += value;
      const blocks = rest.split(/\r?\n\r?\n/);
      rest = blocks.pop();
      for (const block of blocks) {
        const event = eventOf(block);
        if (event) yield event;
      }
    }
  } finally {
    clearTimeout(timer);
    reader?.cancel().catch(() => {});
  }
}

function eventOf(block) {
  let name = "message";
  const data = [];
  for (const line of block.split(/\r?\n/)) {
    if (line.startsWith("event:")) name = line.slice(6).trim();
    else if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
  }
  return data.length ? [name, JSON.parse(data.join("\n"))] : null;
}
