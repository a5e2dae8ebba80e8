// Every operation that the vault remembers, newest first, a page at a time.

import { get } from "./api.js";
import { announce, card, foreign, h, moment, replace, scroll } from "./dom.js";
import { modeName, stateBadge } from "./outcomes.js";
import { bytes, count, duration, plural, when } from "./text.js";

const PAGE = 25;

export async function history({ live, main, heading, signal, title, fail }) {
  title("History");
  const rows = h("tbody", {});
  const more = h("div", { class: "actions" });
  const list = h("div", {}, h("p", { class: "muted" }, "Reading the vault …"));
  main.append(h("header", { class: "top" }, h("p", { class: "kind" }, "Operations"), heading), list);

  async function load(before = null) {
    const { items, next_before: next } = await get("operations", { limit: PAGE, before }, { signal });
    if (!before) {
      rows.replaceChildren();
      replace(list, items.length ? card("Operations", { id: "operations" }, table(rows), more) : empty());
    }
    rows.append(...items.map(row));
    if (before) {
      rows.rows[rows.rows.length - items.length]?.querySelector("a")?.focus();
      announce(`${plural(items.length, "more operation")}`);
    }
    replace(more, next ? h("button", { type: "button", id: "older", onclick: () => load(next).catch((problem) => fail(problem, list)) }, "Show older ones") : null);
  }

  live.addEventListener("ended", () => load().catch((problem) => fail(problem, list)), { signal });
  try {
    await load();
  } catch (problem) {
    replace(list);
    fail(problem, list);
  }
}

const table = (rows) => scroll("Operations, table", h("table", { class: "cards operations" },
  h("thead", {}, h("tr", {}, ["Started", "Kind", "Outcome"].map((each) => h("th", { scope: "col" }, each)),
    ["In scope", "Planned", "Deleted", "Took"].map((each) => h("th", { scope: "col", class: "number" }, each)))),
  rows));

const empty = () => card("Nothing yet", { id: "operations" },
  h("p", {}, "The vault holds no operation of this policy. ", h("a", { href: "#/" }, "Start a dry run on the overview.")));

function row(operation) {
  const shown = (value) => (value === null ? "–" : count(value));
  return h("tr", {},
    h("th", { scope: "row" }, h("a", { href: `#/operations/${operation.operation_id}` }, moment(operation.started_at), h("span", { class: "hidden" }, `, operation ${operation.operation_id}`)),
      " ", h("span", { class: "muted small beneath" }, when(operation.started_at)),
      operation.problem ? h("p", { class: "small" }, foreign(operation.problem, { kind: "said", limit: 160 })) : null),
    h("td", { class: "nowrap" }, modeName(operation.mode)),
    h("td", {}, stateBadge(operation)),
    h("td", { class: "number", "data-label": "In scope" }, shown(operation.total_scanned)),
    h("td", { class: "number", "data-label": "Planned" }, shown(operation.planned_objects), operation.reclaimable_bytes ? h("span", { class: "muted small beneath" }, ` ${bytes(operation.reclaimable_bytes)}`) : null),
    h("td", { class: "number", "data-label": "Deleted" }, shown(operation.deleted_count)),
    h("td", { class: "number", "data-label": "Took" }, operation.duration_seconds === null ? "–" : duration(operation.duration_seconds)));
}
