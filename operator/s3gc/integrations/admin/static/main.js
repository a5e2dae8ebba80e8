// The console's frame: the token, the navigation, the live state; each page is a module of its own.

import { get, token } from "./api.js";
import { announce, h, replace } from "./dom.js";
import { explain } from "./explain.js";
import { history } from "./history.js";
import { operation } from "./operation.js";
import { overview } from "./overview.js";
import { policy } from "./policy.js";
import { problemBox } from "./problems.js";
import { Live } from "./stream.js";

const ROUTES = [
  [/^#?\/?$/, overview, "Overview"],
  [/^#\/history$/, history, "History"],
  [/^#\/operations\/([0-9A-Z]{26})$/, operation, "History"],
  [/^#\/explain$/, explain, "Explain"],
  [/^#\/policy$/, policy, "Policy"],
];
const main = document.getElementById("main");
const bar = document.getElementById("bar");
const live = new Live();
let page = null; // the AbortController of the page that is shown

function show() {
  if (!token.get()) {
    signIn();
    return;
  }
  const arrived = page !== null; // not the first page of this tab: the focus follows the navigation
  leave();
  page = new AbortController();
  bar.hidden = false;
  const [path, query = ""] = location.hash.split("?");
  const route = ROUTES.find(([pattern]) => pattern.test(path)) ?? ROUTES[0];
  const [pattern, open, place] = route;
  for (const link of document.querySelectorAll("#nav a")) {
    if (link.textContent === place) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  live.start();
  const heading = h("h1", { tabindex: "-1", id: "heading" });
  const { signal } = page;
  const context = {
    live,
    main,
    heading,
    signal,
    params: path.match(pattern)?.slice(1) ?? [],
    query: new URLSearchParams(query),
    title: (...children) => {
      replace(heading, ...children);
      document.title = `${heading.textContent} · s3gc`;
    },
    fail: (problem, where = null, retry = null) => fail(problem, where, retry, signal),
  };
  main.replaceChildren();
  window.scrollTo(0, 0);
  open(context).catch((problem) => context.fail(problem));
  if (arrived) heading.focus({ preventScroll: true });
}

// A failure goes where it belongs: without a right token nothing else on the page is true any more.
function fail(problem, where, retry, signal) {
  if (signal.aborted) return;
  if (problem.status === 401 || problem.kind === "forbidden" || problem.kind === "no-key") {
    signIn(problem);
    return;
  }
  if (problem.status === undefined) console.error(problem);
  (where ?? main).append(problemBox(problem.status === undefined ? { kind: "", status: 0, detail: "" } : problem, { retry: retry ?? show }));
}

// What belongs to the page before: its requests, and a question that is still open.
function leave() {
  page?.abort();
  for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
}

function signIn(problem = null) {
  leave();
  page = null;
  live.stop();
  live.status = null;
  token.clear();
  bar.hidden = true;
  document.title = "Sign in · s3gc";
  const trouble = h("div", { id: "trouble" }, problem ? problemBox(problem) : null);
  const input = h("input", { id: "token", name: "token", type: "password", autocomplete: "current-password", required: true, spellcheck: "false", "aria-describedby": "token-help" });
  const open = h("button", { type: "submit", class: "primary" }, "Open the console");
  const form = h("form", { class: "card sign-in", onsubmit: (event) => { event.preventDefault(); enter(); } },
    h("h1", {}, "s3gc console"),
    h("p", { class: "muted" }, "What the garbage collector of this application's bucket does, and what it would do."),
    trouble,
    // For password managers, which keep a password by the name that goes with it.
    h("input", { name: "username", autocomplete: "username", value: "s3gc", readonly: true, hidden: true }),
    h("label", { for: "token" }, "Admin token"),
    input,
    h("p", { class: "muted small", id: "token-help" }, "The value of ", h("code", {}, "S3GC_ADMIN_API_KEY"), " on the server. It stays in this tab until the tab is closed."),
    open);
  main.replaceChildren(form);
  input.focus();

  async function enter() {
    if (open.hasAttribute("aria-disabled")) return;
    open.setAttribute("aria-disabled", "true");
    const given = input.value.trim();
    try {
      // A header takes letters that are visible ASCII only; such a token would end as an obscure error of fetch.
      if (!/^[\x21-\x7e]+$/.test(given)) throw forbidden();
      live.status = await get("status", {}, { as: given });
      token.set(given);
      show();
      document.getElementById("heading")?.focus();
      announce("Signed in.");
    } catch (found) {
      trouble.replaceChildren(problemBox(found));
      input.select();
      input.focus();
    } finally {
      open.removeAttribute("aria-disabled");
    }
  }
}

const forbidden = () => ({ kind: "forbidden", status: 403, detail: "" });

const LIVE = {
  off: ["", ""],
  connecting: ["waiting", "Connecting …"],
  on: ["on", "Live"],
  waiting: ["waiting", "Connection lost, trying again …"],
  failed: ["waiting", "Not connected"],
};

function showLive() {
  const [state, usual] = LIVE[live.state];
  const text = live.problem?.status === 429 ? "Too many open consoles, trying again …" : usual;
  replace(document.getElementById("live"), h("span", { class: `pulse ${state}`, "aria-hidden": "true" }), h("span", { class: "live-text" }, text));
  if (live.state === "waiting") announce("The connection to the server is lost; the console tries again.");
  if (live.state === "failed" && page) fail(live.problem, null, null, page.signal);
}

live.addEventListener("state", showLive);
// A browser has few connections to one server; a tab that nobody looks at gives its own back.
document.addEventListener("visibilitychange", () => {
  if (!page) return;
  if (document.hidden) live.stop();
  else live.start();
});
window.addEventListener("online", () => live.retryNow());
window.addEventListener("hashchange", show);
document.getElementById("sign-out").addEventListener("click", () => signIn());
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
show();
