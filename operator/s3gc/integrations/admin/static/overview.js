// The first page: what the policy is, what runs now, what waits for a person, how the last cycle ended.

import { approve, startCycle } from "./actions.js";
import { get, health } from "./api.js";
import { announce, badge, card, factRow, facts, figure, figures, foreign, h, moment, replace } from "./dom.js";
import { modeName, pill, stateBadge, stateOf } from "./outcomes.js";
import { problemBox } from "./problems.js";
import { progressCard } from "./progress.js";
import { ago, bytes, count, days, duration, plural, when } from "./text.js";

export async function overview({ live, main, heading, signal, title, fail }) {
  title("Overview");
  const top = h("header", { class: "top" }, h("p", { class: "kind", id: "kind" }), heading, h("div", { class: "top-actions", id: "top-actions" }));
  const pending = h("div", { class: "slot" });
  const running = progressCard();
  const ended = h("div", { class: "slot" });
  const totals = h("div", { class: "slot" });
  const last = h("div", { class: "slot" });
  const policy = h("div", {});
  const state = h("div", {});
  main.append(top, pending, running.element, ended, totals, last, h("div", { class: "pair" }, policy, state));
  running.element.hidden = true;

  let drawn = "";
  function draw() {
    const { status } = live;
    if (!status || signal.aborted) return;
    running.update(status, live.counts);
    // Everything but the progress is drawn anew only when it has changed.
    const { running: now, ...rest } = status;
    const key = JSON.stringify([rest, now && [now.kind, now.operation_id]]);
    if (key === drawn) return;
    drawn = key;
    title(foreign(status.bucket, { kind: "bucket" }));
    replace(document.getElementById("kind"), "Policy ", foreign(status.policy, { kind: "said" }), " · ", modeName(status.mode), status.approval === "manual" ? ", each plan is approved by a person" : "");
    replace(document.getElementById("top-actions"), pill(...present(status)),
      h("button", { type: "button", id: "start", class: "primary", "aria-disabled": status.running ? "true" : null, onclick: start }, "Start a cycle"));
    replace(pending, status.pending_approval ? pendingCard(status) : null);
    replace(ended, endedCard(status));
    replace(last, lastCard(status));
    replace(policy, policyCard(status));
  }

  async function start(event) {
    if (event.currentTarget.hasAttribute("aria-disabled")) {
      announce("A cycle or a restore is running; another one can start when it has ended.");
      return;
    }
    try {
      if (await startCycle(live)) await live.refresh();
    } catch (problem) {
      fail(problem);
    }
  }

  function pendingCard(status) {
    const plan = status.pending_approval;
    const say = async () => {
      try {
        if (await approve(plan, { bucket: status.bucket })) await live.refresh();
      } catch (problem) {
        fail(problem);
      }
    };
    return card("A plan waits for approval", { id: "pending", tone: "notice info" },
      h("p", {}, h("strong", {}, plural(plan.objects, "object")), `, ${bytes(plan.bytes)}, would be deleted. `,
        plan.expires_at ? `The plan holds until ${when(plan.expires_at)} (${ago(plan.expires_at)}).` : ""),
      plan.guards.some((guard) => guard.tripped) ? h("ul", { class: "plain" }, plan.guards.filter((guard) => guard.tripped).map((guard) => h("li", {}, foreign(guard.message || guard.guard, { kind: "said" })))) : null,
      h("div", { class: "actions" },
        h("a", { class: "button", id: "pending-look", href: `#/operations/${plan.operation_id}` }, "Look through the plan"),
        h("button", { type: "button", class: "primary", id: "pending-approve", onclick: say }, "Approve …")));
  }

  async function refreshTotals() {
    try {
      const metrics = await get("metrics", {}, { signal });
      replace(totals, metrics.total_runs ? totalFigures(metrics) : null);
    } catch (problem) {
      replace(totals);
      fail(problem, totals, refreshTotals);
    }
  }

  async function refreshHealth() {
    const again = h("button", { type: "button", id: "check-health", onclick: refreshHealth }, "Check again");
    again.setAttribute("aria-disabled", "true");
    replace(state, card("Health", { id: "health", actions: again }, h("p", { class: "muted" }, "Asking vault, bucket and databases …")));
    try {
      replace(state, healthCard(await health(signal), again));
    } catch (problem) {
      replace(state, card("Health", { id: "health", actions: again }));
      fail(problem, state.firstChild, refreshHealth);
    } finally {
      again.removeAttribute("aria-disabled");
    }
  }

  const finished = ({ detail }) => {
    announce(endedSentence(detail));
    refreshTotals();
  };
  live.addEventListener("status", draw, { signal });
  live.addEventListener("progress", draw, { signal });
  live.addEventListener("ended", draw, { signal });
  live.addEventListener("ended", finished, { signal });
  const clock = setInterval(() => running.clock(), 1000);
  signal.addEventListener("abort", () => clearInterval(clock));
  if (live.status) draw();
  else await live.refresh();
  await Promise.all([refreshTotals(), refreshHealth()]);
}

function present(status) {
  if (status.running) return ["info", status.running.kind === "restore" ? "Restoring" : "Running"];
  if (status.busy) return ["warn", "Busy elsewhere"];
  if (status.pending_approval) return ["info", "Waits for approval"];
  if (status.last_ended?.problem) return ["bad", "Failed"];
  if (!status.last_cycle) return ["info", "No cycle yet"];
  const [tone, words] = stateOf(status.last_cycle);
  return tone === "good" ? ["good", "Idle"] : [tone, words];
}

function endedSentence(ended) {
  if (ended.problem) return `Failed: ${ended.problem.detail}`;
  if (ended.restore) return `The restore has ended: ${plural(ended.restore.restored_count, "object")} restored.`;
  return `The cycle has ended: ${stateOf({ outcome: ended.outcome })[1]}.`;
}

// What ended last, where it says more than the last cycle's card: a failure, or a restore.
function endedCard(status) {
  const ended = status.last_ended;
  if (status.busy && !status.running) {
    return h("div", { class: "notice warn" }, h("p", {}, h("strong", {}, "Another process holds this bucket's scope. ")), h("p", {}, foreign(status.busy, { kind: "said" })));
  }
  if (!ended || status.running) return null;
  if (ended.problem) {
    const box = problemBox({ ...ended.problem, kind: ended.problem.type.replace("urn:s3gc:", "") }, { id: "ended-problem" });
    box.removeAttribute("role"); // it is no news: it was said when it happened
    box.prepend(h("p", { class: "muted small" }, ended.kind === "restore" ? "The last restore failed, " : "The last cycle failed, ", moment(ended.ended_at)));
    return box;
  }
  if (!ended.restore) return null;
  const done = ended.restore;
  const tone = done.failed_count || done.errors.length ? "bad" : "good";
  return h("div", { class: `notice ${tone}`, id: "restored" },
    h("p", {}, h("strong", {}, `Restored ${plural(done.restored_count, "object")}, ${bytes(done.restored_bytes)}`), " ", moment(ended.ended_at), "."),
    done.skipped_count ? h("p", {}, `${plural(done.skipped_count, "object was", "objects were")} there already and stayed.`) : null,
    done.failed_count ? h("p", {}, `${plural(done.failed_count, "object")} could not be restored:`) : null,
    done.failed_count ? h("ul", { class: "keys" }, Object.entries(done.failed_keys).slice(0, 10).map(([key, why]) => h("li", {}, foreign(key), ": ", foreign(why, { kind: "said" })))) : null,
    [...done.errors, ...done.warnings].slice(0, 10).map((each) => h("p", {}, foreign(each, { kind: "said" }))));
}

const totalFigures = (metrics) =>
  figures("Over all operations", [
    figure("Deleted", count(metrics.total_deleted), `in ${plural(metrics.total_runs, "operation")}`),
    figure("Restored", count(metrics.total_restored), "objects"),
    figure("Freed", bytes(metrics.reclaimed_bytes), "in the bucket"),
    figure("In the vault", bytes(metrics.vault_size_bytes), `${plural(metrics.total_backed_up, "object")} backed up`),
  ]);

function lastCard(status) {
  const cycle = status.last_cycle;
  if (!cycle) {
    return status.running ? null : card("No cycle has run yet", { id: "last" },
      h("p", {}, "Begin with a dry run: it lists the bucket, reads every reference and shows what would go. Nothing in the bucket changes."));
  }
  return card("The last cycle", { id: "last", actions: stateBadge(cycle) },
    h("p", {}, modeName(cycle.mode), ", ", moment(cycle.started_at), cycle.duration_seconds ? `, took ${duration(cycle.duration_seconds)}` : "", "."),
    cycle.problem ? h("p", {}, foreign(cycle.problem, { kind: "said" })) : null,
    factRow([
      cycle.total_scanned !== null && ["In scope", plural(cycle.total_scanned, "object")],
      cycle.planned_objects !== null && ["Planned", `${plural(cycle.planned_objects, "object")}, ${bytes(cycle.reclaimable_bytes ?? 0)}`],
      cycle.mode !== "dry_run" && cycle.backed_up_count !== null && ["Backed up", plural(cycle.backed_up_count, "object")],
      cycle.mode === "execute" && cycle.deleted_count !== null && ["Deleted", plural(cycle.deleted_count, "object")],
      cycle.missing_objects && ["Missing from the bucket", plural(cycle.missing_objects, "object")],
      cycle.errors && ["Errors", count(cycle.errors)],
    ]),
    h("div", { class: "actions" },
      h("a", { class: "button", id: "last-look", href: `#/operations/${cycle.operation_id}` }, "Look at it"),
      h("a", { class: "button", id: "last-history", href: "#/history" }, "All operations")));
}

const policyCard = (status) =>
  card("Policy", { id: "policy" }, facts([
    ["Mode", modeName(status.mode)],
    ["Approval", status.approval === "manual" ? "by a person" : "automatic, within the guards' limits"],
    ["Scope", status.prefixes.length ? status.prefixes.map((prefix, index) => [index ? ", " : "", foreign(prefix)]) : "the whole bucket"],
    ["Keeps young objects", days(status.retention_days)],
    ["Unreferenced for at least", days(status.unreferenced_days)],
    ["Vault", foreign(status.vault)],
    ["Schedule", status.schedule ? [h("code", {}, status.schedule.cron), ` ${status.schedule.time_zone}`] : "none: cycles start on request"],
    status.schedule && ["Next run", [when(status.schedule.next_run_at), " ", h("span", { class: "nowrap" }, `(${ago(status.schedule.next_run_at)})`)]],
    ["Version", `s3gc ${status.version}`],
  ]));

const HEALTH = { ok: ["good", "ok"], failed: ["bad", "failed"], unknown: ["warn", "unknown"], off: ["quiet", "off"] };

function healthCard(found, again) {
  const parts = [found.vault, found.bucket, ...found.databases, ...found.cdc, found.schedule];
  return card("Health", { id: "health", actions: again }, h("ul", { class: "parts" }, parts.map((part) =>
    h("li", {}, badge(...HEALTH[part.state]), h("div", {}, h("p", {}, foreign(part.name, { kind: "said" }), part.milliseconds === null ? null : h("span", { class: "muted small" }, ` ${count(part.milliseconds)} ms`)),
      part.detail ? h("p", { class: "muted small" }, foreign(part.detail, { kind: "said" })) : null)))));
}
