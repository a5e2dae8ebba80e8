// How far the running cycle or restore is: one card, kept in place while its numbers grow.

import { announce, foreign, h, replace } from "./dom.js";
import { count, duration, percent, plural } from "./text.js";

const PHASES = {
  Starting: "Starting",
  Preflight: "Checking store and databases",
  Recovering: "Recovering what an earlier run left",
  Listing: "Listing objects",
  Reading: "Reading references",
  Joining: "Joining objects and references",
  Healing: "Healing",
  Planning: "Planning",
  BackingUp: "Backing up",
  Verifying: "Verifying against the databases",
  Deleting: "Deleting",
  Checking: "Checking every deletion",
  Purging: "Purging what earlier cycles hid",
  Finishing: "Finishing",
  Restoring: "Restoring",
};
// What each phase counts, for its bar.
const COUNTED = { BackingUp: "backed_up", Verifying: "backed_up", Deleting: "deleted", Checking: "deleted", Restoring: "restored" };
const COUNTS = [
  ["listed", "objects listed"],
  ["references", "references read"],
  ["candidates", "candidates"],
  ["backed_up", "backed up"],
  ["deleted", "deleted"],
  ["restored", "restored"],
];
const MODES = { dry_run: "Dry run", audit_only: "Audit", execute: "Cycle" };

export const phaseName = (phase) => PHASES[phase] ?? phase;

export function progressCard() {
  const title = h("h2", { id: "running" });
  const remark = h("p", { class: "muted small" });
  const phase = h("p", { class: "phase" });
  const meter = h("progress", { "aria-labelledby": "running" });
  const share = h("span", { class: "muted" });
  const numbers = h("ul", { class: "counts" });
  const element = h("section", { class: "card running", "aria-labelledby": "running" }, title, remark,
    h("div", { class: "phase-line" }, phase, share), meter, numbers);
  let said = "";
  let running = null;

  function clock() {
    if (!running) return;
    const who = running.trigger === "schedule" ? "by schedule" : "on request";
    replace(remark, `Started ${who} ${duration((Date.now() - Date.parse(running.started_at)) / 1000)} ago`,
      running.here ? "" : ", in another worker process",
      running.operation_id ? [" · ", foreign(running.operation_id, { kind: "code" })] : "");
  }

  function update(status, counts) {
    running = status.running;
    element.hidden = !running;
    if (!running) {
      said = "";
      return;
    }
    const { progress } = running;
    title.textContent = running.kind === "restore" ? "A restore is running" : `${MODES[running.mode] ?? "Cycle"} is running`;
    clock();
    phase.textContent = phaseName(progress.phase);
    const counted = COUNTED[progress.phase];
    if (progress.total && counted) {
      const done = Math.min(progress.total, progress[counted]);
      meter.max = progress.total;
      meter.value = done;
      share.textContent = `${count(done)} of ${count(progress.total)}, ${percent(done, progress.total)}`;
    } else {
      meter.removeAttribute("value");
      share.textContent = "";
    }
    replace(numbers, COUNTS.filter(([name]) => counts[name]).map(([name, what]) =>
      h("li", {}, h("strong", {}, count(counts[name])), " ", h("span", { class: "muted" }, what))));
    // A screen reader hears the phases, not every number.
    const now = `${running.started_at} ${progress.phase}`;
    if (now !== said) {
      said = now;
      announce(`${phaseName(progress.phase)}${counts.listed ? `, ${plural(counts.listed, "object")} listed` : ""}`);
    }
  }

  return { element, update, clock };
}
