// One operation: its numbers, what refused, its charts, its plan, and what can be done with it.

import { approve, restore } from "./actions.js";
import { get, text as fetchText } from "./api.js";
import { bar } from "./charts.js";
import { card, figure, figures, foreign, h, moment, number, replace, scroll } from "./dom.js";
import { guardRows, modeName, outcomePill } from "./outcomes.js";
import { planCard } from "./plan.js";
import { phaseName } from "./progress.js";
import { particularsCard, scopeCard, summaryCards, timeCard } from "./summary.js";
import { bytes, count, duration, money, percent, plural } from "./text.js";

const ERRORS_SHOWN = 20;

export async function operation(context) {
  const { live, main, heading, signal, title, params: [id], fail } = context;
  title("Operation ", h("code", { class: "id" }, id));
  const top = h("header", { class: "top" }, h("p", { class: "kind", id: "kind" }, "Reading the record …"), heading, h("div", { class: "top-actions", id: "top-actions" }));
  const body = h("div", { class: "stack" });
  const charts = h("div", { class: "stack" });
  const rest = h("div", { class: "stack" });
  main.append(top, body, charts, rest);
  const plan = planCard(id, context);

  async function load() {
    const detail = await get(`operations/${id}`, {}, { signal });
    const { operation: found, result } = detail;
    replace(document.getElementById("kind"), modeName(found.mode), " of ", foreign(found.bucket), " · ", moment(found.started_at), found.duration_seconds ? ` · ${duration(found.duration_seconds)}` : "");
    replace(document.getElementById("top-actions"), outcomePill(found));
    replace(body, actions(detail), found.problem ? h("div", { class: "notice warn" }, h("p", {}, foreign(found.problem, { kind: "said" }))) : null,
      result ? figures("The most important numbers", [...numbers(result)]) : null,
      result ? guardCard(result, true) : null, lateCard(result), errorCard(result), result ? scopeCard(result) : null);
    return detail;
  }

  function actions(detail) {
    const { operation: found, result } = detail;
    const after = () => load().catch((problem) => fail(problem, body));
    const offered = [
      detail.approvable && h("button", { type: "button", class: "primary", id: "approve", onclick: async () => {
        const done = await approve({ operation_id: id, plan_digest: found.plan_digest, objects: result?.planned_objects ?? found.planned_objects, bytes: result?.reclaimable_bytes ?? found.reclaimable_bytes,
          expires_at: result?.approval_expires_at ?? null, guards: result?.guards ?? [] }, { bucket: found.bucket, scanned: result?.total_scanned });
        if (done) await after();
      } }, "Approve …"),
      detail.restorable && h("button", { type: "button", id: "restore", onclick: async () => {
        if (await restore(found, live)) location.hash = "#/";
      } }, "Restore …"),
      result && h("button", { type: "button", id: "report", onclick: () => download(id).catch((problem) => fail(problem, body)) }, "Download the report"),
      found.planned_objects && h("button", { type: "button", id: "to-plan", onclick: () => plan.element.querySelector("h2").focus() }, "Go to the plan"),
    ];
    return h("div", { class: "actions wide-actions" }, offered,
      detail.approved_at ? h("p", { class: "muted" }, "Approved ", moment(detail.approved_at), detail.approved_by ? [" by ", foreign(detail.approved_by, { kind: "said" })] : "", ".")
        : !detail.approvable && result?.outcome === "AwaitingApproval" && detail.why_not_approvable ? h("p", { class: "muted" }, foreign(detail.why_not_approvable, { kind: "said" })) : null);
  }

  live.addEventListener("ended", ({ detail: { operation_id: ended } }) => {
    if (ended === id) load().catch((problem) => fail(problem, body));
  }, { signal });
  const detail = await load().catch((problem) => {
    replace(document.getElementById("kind"), "Operation");
    throw problem;
  });
  const { result } = detail;
  rest.append(plan.element);
  const charted = result && get(`operations/${id}/summary`, {}, { signal }).then((summary) => {
    replace(charts, summaryCards(summary, { done: summary.source === "manifest" && detail.operation.mode === "execute" }));
    if (summary.monthly && result) addMoney(body, summary);
    return summary;
  }).catch((problem) => {
    fail(problem, charts);
    return null;
  });
  const [summary] = await Promise.all([charted, plan.load(false)]);
  if (signal.aborted) return;
  if (result) rest.append(...[guardCard(result, false), coverageCard(result), timeCard(result, phaseName)].filter(Boolean));
  rest.append(particularsCard(detail, summary));
}

function* numbers(result) {
  const stopped = result.outcome === "AwaitingApproval" || result.outcome === "Refused";
  if (result.mode === "execute" && !stopped) {
    yield figure("Deleted", count(result.deleted_count), `of ${plural(result.verified_orphans, "verified orphan")}`);
    const freed = result.reclaimed_bytes - result.purged_bytes;
    yield figure("Size", bytes(freed || result.backed_up_bytes), result.deleted_count && !freed ? "behind delete markers" : "freed");
    yield figure("Backed up", count(result.backed_up_count), `${bytes(result.vault_bytes_written)} in the vault`);
  } else {
    yield figure("Would go", count(result.planned_objects), result.total_scanned ? `${percent(result.planned_objects, result.total_scanned)} of the objects in scope` : "nothing is in scope");
    yield figure("Size", bytes(result.reclaimable_bytes), `of ${bytes(result.total_bytes)} in scope`);
  }
  if (result.purged_count) yield figure("Purged", bytes(result.purged_bytes), `freed: ${plural(result.purged_count, "version")} that earlier cycles hid`);
  yield figure("In scope", count(result.total_scanned), bytes(result.total_bytes));
  if (result.missing_objects) yield figure("Missing objects", count(result.missing_objects), "referenced, but not in the bucket");
  if (result.late_references) yield figure("Late references", count(result.late_references), "restored at once");
  if (result.healed_count) yield figure("Healed", count(result.healed_count), "referenced again, restored");
}

function addMoney(body, summary) {
  const row = body.querySelector(".figures");
  if (!row || row.children.length > 5) return;
  row.append(figure("Saves a month", money(summary.monthly), `${money(12 * summary.monthly)} a year, estimated`));
  row.className = `figures columns-${row.children.length}`;
}

// Guards stand at the top when one refused, and below the plan when all passed.
function guardCard(result, top) {
  const tripped = result.guards.some((guard) => guard.tripped);
  if (!result.guards.length || tripped !== top) return null;
  return card("Guards", { id: "guards" }, scroll("Guards, table", h("table", { class: "cards guards" },
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Verdict"), h("th", { scope: "col" }, "Guard"), h("th", { scope: "col", class: "number" }, "Number"), h("th", { scope: "col" }, "What it says"))),
    h("tbody", {}, guardRows(result.guards)))));
}

function lateCard(result) {
  if (!result?.late_references) return null;
  return card("Referenced during the sweep", { id: "late", tone: "notice bad" },
    h("p", {}, `${plural(result.late_references, "object")} came to be referenced while the sweep was running. The check after the deletion found and restored ${result.late_references === 1 ? "it" : "them"}.`),
    h("ul", { class: "keys" }, result.late_reference_keys.slice(0, 10).map((key) => h("li", {}, foreign(key)))));
}

function errorCard(result) {
  if (!result?.errors.length) return null;
  return card("Errors", { id: "errors", tone: "notice bad" },
    h("ul", { class: "plain" }, result.errors.slice(0, ERRORS_SHOWN).map((each) => h("li", {}, foreign(each, { kind: "said" })))),
    result.errors.length > ERRORS_SHOWN ? h("p", { class: "muted" }, `and ${count(result.errors.length - ERRORS_SHOWN)} more in the report`) : null);
}

function coverageCard(result) {
  if (!result.coverage.length) return null;
  return card("Coverage of the references", { id: "coverage" },
    h("p", { class: "muted small" }, "How many of a column's values name an object that exists. A wrong column or format shows here first."),
    scroll("Coverage, table", h("table", { class: "coverage cards" },
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Column"), h("th", { scope: "col", class: "number" }, "Values"), h("th", { scope: "col" }, "Name an object"), h("th", { scope: "col", class: "number" }, "References"), h("th", { scope: "col" }, "Look at"))),
      h("tbody", {}, result.coverage.map(coverageRow)))));
}

function coverageRow(column) {
  const share = column.values ? column.resolved / column.values : 0;
  const tone = !column.values || share >= 0.5 ? "accent" : share >= 0.1 ? "warn" : "bad";
  const shown = percent(column.resolved, column.values);
  const samples = [...column.unparsed_samples.slice(0, 2), ...column.missing_samples.slice(0, 2)];
  return h("tr", {},
    h("th", { scope: "row" }, foreign(column.column, { kind: "said" }), h("br"), h("span", { class: "muted small" }, foreign(column.source, { kind: "said" }), `, ${column.format}`)),
    h("td", { class: "number", "data-label": "values" }, count(column.values)),
    h("td", { class: "bar-cell" }, bar(share, `${shown} name an object that exists`, tone), h("span", { class: "small" }, shown)),
    h("td", { class: "number", "data-label": "references" }, count(column.references)),
    h("td", { class: "wide" }, [...warnings(column)].map((each) => h("p", { class: "small" }, each)),
      Object.entries(column.undeclared_hosts).sort((one, other) => other[1] - one[1]).slice(0, 5).map(([host, many]) => h("p", { class: "small" }, `${count(many)} on the undeclared host `, foreign(host, { limit: 60 }))),
      samples.length ? h("details", {}, h("summary", {}, "examples"), h("ul", { class: "keys" }, samples.map((each) => h("li", {}, foreign(each, { limit: 160 }))))) : null));
}

function* warnings(column) {
  if (!column.values) yield "no values at all";
  else if (!column.resolved) yield "no value names an object that exists: is this the right column, format and bucket?";
  for (const [many, what] of [
    [column.missing, "name an object that does not exist"],
    [column.unparsed, "could not be understood"],
    [column.other_bucket, "name another bucket"],
    [column.outside, "lie outside of the scope"],
    [column.foreign, "are on foreign hosts"],
    [column.ignored, "were ignored (data:, mailto: and the like)"],
  ]) {
    if (many) yield `${count(many)} ${what}`;
  }
  if (column.approximate) yield "extrapolated from a sample";
  for (const [prefix, kept] of Object.entries(column.prefix_kept).slice(0, 3)) yield [`keeps ${plural(kept, "object")} under `, foreign(prefix, { limit: 60 })];
}

// The report is a page of its own with a policy of its own; it is handed over as a file, never shown inside this one.
async function download(id) {
  const page = await fetchText(`operations/${id}/report`);
  const href = URL.createObjectURL(new Blob([page], { type: "text/html" }));
  const link = h("a", { href, download: `s3gc-${id}.html` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(href), 10_000);
}
