// Outcomes, modes, guards: their names and colours, the same as the report's.

import { badge, foreign, h } from "./dom.js";
import { bytes, count } from "./text.js";

const OUTCOMES = {
  Succeeded: ["good", "Succeeded"],
  PartiallyFailed: ["bad", "Partially failed"],
  Refused: ["warn", "Refused by a guard"],
  AwaitingApproval: ["info", "Waits for approval"],
  Failed: ["bad", "Failed"],
  Unknown: ["warn", "Unknown"],
};
const STATES = { running: ["info", "Running"], cut_off: ["warn", "Cut off"], damaged: ["bad", "Damaged record"] };
const MODES = { dry_run: "Dry run", audit_only: "Audit only", execute: "Execute" };
const GUARDS = {
  sources: "every database was read to its end",
  listing: "the listing of the bucket is provably complete",
  noSource: "a database says what is referenced",
  minReferences: "references that a database yields",
  maxReferenceDropPercent: "values gone since the last believed cycle",
  minResolvedPercent: "values that name an object that exists",
  maxUnparsedPercent: "values that could not be understood",
  undeclaredColumns: "columns that nobody declared and that name planned objects",
  overlap: "other owners of the same keys",
  maxPlanAge: "hours since the plan was made",
  maxDeletePercent: "planned, of the objects in scope",
  maxDeleteObjects: "objects in the plan",
  maxDeleteBytes: "bytes in the plan",
};

export const modeName = (mode) => MODES[mode] ?? mode;

// [tone, words] of an operation's line: how it ended, or that it did not.
export const stateOf = (operation) => STATES[operation.state] ?? OUTCOMES[operation.outcome] ?? ["warn", "Unknown"];

export const stateBadge = (operation) => badge(...stateOf(operation));

export const pill = (tone, text) => h("p", { class: `outcome ${tone}` }, h("span", { class: "dot", "aria-hidden": "true" }), text);

export const outcomePill = (operation) => pill(...stateOf(operation));

function numbers(guard) {
  const unit = guard.guard.toLowerCase().includes("percent") ? " %" : "";
  const shown = (value) => (guard.guard.toLowerCase().includes("bytes") ? bytes(value) : `${count(Math.floor(value))}${value % 1 ? (value % 1).toFixed(1).slice(1) : ""}${unit}`);
  const value = guard.value === null ? "–" : shown(guard.value);
  if (guard.limit === null) return [guard.value === null ? "" : value, ""];
  if (guard.guard.startsWith("min")) return [value, `at least ${shown(guard.limit)}`];
  if (!guard.limit) return [guard.value ? value : "none", guard.value ? "none allowed" : ""];
  return [value, `at most ${shown(guard.limit)}`];
}

export const guardName = (guard) => [foreign(guard.guard, { kind: "code" }), h("br"), h("span", { class: "muted small" }, GUARDS[guard.guard] ?? "")];

// One row a guard that tripped; of those that passed one a kind, the closest to its limit.
export function guardRows(guards) {
  const tripped = guards.filter((guard) => guard.tripped);
  const kinds = Map.groupBy(guards.filter((guard) => !guard.tripped), (guard) => guard.guard);
  const closeness = (guard) => (guard.guard.startsWith("min") ? -(guard.value ?? 0) : guard.value ?? 0);
  const passed = [...kinds].sort().map(([, found]) => [found.reduce((best, each) => (closeness(each) > closeness(best) ? each : best)), found.length]);
  return [
    ...tripped.map((guard) => guardRow(guard, guard.waived ? "waived" : "refused", guard.waived ? "warn" : "bad", 1)),
    ...passed.map(([guard, many]) => guardRow(guard, "passed", "good", many)),
  ];
}

function guardRow(guard, verdict, tone, many) {
  const [value, limit] = numbers(guard);
  return h("tr", {},
    h("td", {}, badge(tone, verdict)),
    h("th", { scope: "row" }, guardName(guard)),
    h("td", { class: "number" }, value, limit ? [h("br"), h("span", { class: "muted small" }, limit)] : null),
    h("td", { class: "wide" },
      guard.message ? h("p", {}, foreign(guard.message, { kind: "said" })) : null,
      guard.way_on ? h("p", { class: "muted" }, "Way on: ", foreign(guard.way_on, { kind: "said" })) : null,
      !guard.message && guard.subject ? h("p", { class: "muted small" }, many > 1 ? `closest of ${count(many)}: ` : "", foreign(guard.subject, { kind: "said" })) : null));
}
