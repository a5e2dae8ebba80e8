// The report's charts of one operation: where the planned objects are, how old, how large, what they cost to keep.

import { bars, histogram, legend, partsOf, stacked, swatch } from "./charts.js";
import { card, foreign, h, number, scroll } from "./dom.js";
import { bytes, count, day, duration, money, percent, plural, words } from "./text.js";

export function summaryCards(summary, { done = false } = {}) {
  if (!summary.objects) return [];
  return [
    card(done ? "Where it was" : "Where it is", { id: "where" },
      bars(["Prefix", "Share of bytes", "Size", "Objects"], summary.by_prefix, {}, (each) =>
        [foreign(each.label, { limit: 48 }), `${percent(each.bytes, summary.bytes)} of all bytes`, bytes(each.bytes), count(each.objects)])),
    h("div", { class: "pair" },
      card("How old", { id: "age" },
        h("p", { class: "muted small" }, `Objects by last modification, ${day(summary.oldest)} to ${day(summary.newest)}`),
        histogram(summary.by_age, "Objects by age", (each) => `${each.label}: ${plural(each.objects, "object")}, ${bytes(each.bytes)}`)),
      card("How large", { id: "size" },
        bars(["Size of an object", "Share of objects", "Objects", "Size of all"], summary.by_size, { by: "objects", colour: "c2", trim: true }, (each) =>
          [each.label, `${percent(each.objects, summary.objects)} of all objects`, count(each.objects), bytes(each.bytes)]))),
    costCard(summary),
  ];
}

function costCard(summary) {
  const parts = partsOf(summary.by_class.map((each) => [each.label, each.bytes, bytes(each.bytes)]));
  return card("What it costs to keep", { id: "cost" },
    parts.length ? stacked(parts, "Bytes by storage class") : null,
    scroll("Storage classes, table", h("table", { class: "classes" },
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Storage class"), ["Objects", "Size", "A month"].map((each) => h("th", { scope: "col", class: "number" }, each)))),
      h("tbody", {}, summary.by_class.map((each, index) => h("tr", {},
        h("th", { scope: "row" }, swatch(`c${(index % 12) + 1}`), foreign(each.label, { kind: "code" })), number(count(each.objects)), number(bytes(each.bytes)), number(money(each.monthly))))),
      h("tfoot", {}, h("tr", {}, h("th", { scope: "row" }, "all"), number(count(summary.objects)), number(bytes(summary.bytes)), number(h("strong", {}, money(summary.monthly))))))),
    h("p", { class: "muted small" }, `An estimate: ${summary.price_origin}, for storage alone.`));
}

// What the objects in scope are, as parts of all of them, the planned ones first (as in the report).
export function scopeCard(result) {
  const planned = Math.max(0, result.candidates_found - result.waiting_count);
  const left = [
    ["waiting to be sure", result.waiting_count],
    ["too young", result.young_count],
    ["excluded", result.excluded_count],
    ["held after a restore", result.held_count],
    ["nothing can vouch for", result.unverifiable_count],
    ["not actionable", result.not_actionable_count],
  ];
  const referenced = Math.max(0, result.total_scanned - planned - left.reduce((sum, [, value]) => sum + value, 0));
  const parts = partsOf([["unreferenced", planned], ["referenced", referenced], ...left].map(([label, value]) => [label, value, count(value)]));
  return parts.length ? card("What is in scope", { id: "scope" }, stacked(parts, "Objects in scope by what they are"), legend(parts, result.total_scanned)) : null;
}

export function timeCard(result, phaseName) {
  const parts = partsOf(Object.entries(result.phase_seconds).map(([name, seconds]) => [phaseName(name), seconds, duration(seconds)]));
  return parts.length ? card("Where the time went", { id: "time" }, stacked(parts, "Duration by phase"), legend(parts)) : null;
}

export function particularsCard(detail, summary) {
  const { result, operation } = detail;
  return card("Particulars", { id: "particulars" }, h("dl", {}, [
    ["Operation", h("code", {}, operation.operation_id)],
    operation.plan_digest && ["Plan digest", h("code", { class: "long" }, operation.plan_digest)],
    ["Journal", words(operation.journal)],
    ["In the vault", `${plural(detail.packs, "pack")}${detail.held ? ", held" : ""}`],
    detail.approved_at && ["Approved", [day(detail.approved_at), detail.approved_by ? [" by ", foreign(detail.approved_by, { kind: "said" })] : ""]],
    result && result.mode !== "dry_run" && ["Verification", [result.verification, result.verification_reason ? [" (", foreign(result.verification_reason, { kind: "said" }), ")"] : ""]],
    result?.deletion && ["Deletion", foreign(result.deletion, { kind: "said" })],
    ...Object.entries(result?.skipped ?? {}).map(([why, many]) => ["Skipped", [`${count(many)} `, foreign(words(why), { kind: "said" })]]),
    ...(summary?.by_outcome ?? []).map((each) => [`Became: ${words(each.label)}`, `${plural(each.objects, "object")}, ${bytes(each.bytes)}`]),
    result && Object.keys(result.requests).length && ["Requests", Object.entries(result.requests).sort().map(([action, many]) => `${action} ${count(many)}`).join(", ")],
  ].filter(Boolean).map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])));
}
