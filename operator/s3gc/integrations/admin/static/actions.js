// What a person can set in motion. Each asks first, with the numbers, and each is done by exactly one request.

import { ask } from "./api.js";
import { confirm } from "./dialog.js";
import { announce, facts, foreign, h } from "./dom.js";
import { guardName, modeName } from "./outcomes.js";
import { bytes, count, plural, when } from "./text.js";

// A restore that counts, or a server that waits for a lock, may take minutes.
const LONG = 15 * 60_000;
const KEYS_SHOWN = 10;

export async function startCycle(live) {
  const { mode, bucket, approval } = live.status;
  const deletes = mode !== "dry_run";
  const choices = [
    ["dry_run", "Dry run", "Makes a plan and a report. Nothing in the bucket changes."],
    ...(deletes ? [["", `${modeName(mode)}, as the policy says`, describe(mode, approval)]] : []),
  ];
  const started = await confirm({
    title: "Start a cycle",
    content: [
      h("p", {}, "Lists the bucket ", foreign(bucket), " and reads every reference in the databases."),
      h("fieldset", {}, h("legend", {}, "How far it may go"), choices.map(([value, name, remark], index) =>
        h("div", { class: "choice" },
          h("input", { type: "radio", name: "mode", id: `mode-${index}`, value, checked: index === 0, "aria-describedby": `mode-${index}-remark` }),
          h("div", {}, h("label", { for: `mode-${index}` }, name), h("p", { class: "muted small", id: `mode-${index}-remark` }, remark))))),
    ],
    confirm: "Start",
    act: (form) => ask("POST", "run", { query: { mode: form.get("mode") }, timeout: LONG }),
  });
  if (started) announce("The cycle has started.");
  return started;
}

function describe(mode, approval) {
  const asks = approval === "manual" ? " It stops before the first deletion and waits for an approval." : "";
  if (mode === "audit_only") return "Makes a plan and backs its objects up into the vault. Nothing in the bucket is deleted.";
  return `Backs up and deletes what no row references; every object can be restored from the vault.${asks}`;
}

// `plan`: operation_id, plan_digest, objects, bytes, expires_at, guards; `scanned` is how many are in scope, if known.
export async function approve(plan, { bucket, scanned = 0 }) {
  const waived = plan.guards.filter((guard) => guard.tripped && guard.waivable);
  const never = plan.guards.filter((guard) => guard.tripped && !guard.waivable);
  const approved = await confirm({
    title: `Approve the deletion of ${plural(plan.objects, "object")}?`,
    content: [
      h("p", {}, "The next cycle may delete these objects of ", foreign(bucket), ", and no other. Before it does, it reads every reference anew and keeps whatever is referenced by then; what it deletes stays in the vault and can be restored."),
      facts([
        ["Objects", scanned ? `${count(plan.objects)} of ${count(scanned)} in scope` : count(plan.objects)],
        ["Size", bytes(plan.bytes)],
        plan.expires_at && ["Holds until", when(plan.expires_at)],
        ["Plan", h("code", { class: "long" }, plan.plan_digest)],
      ]),
      guards("The approval waives:", waived),
      guards("No approval waives, so the next cycle judges anew:", never),
      h("label", { for: "approve-by" }, "Your name, for the record"),
      h("input", { id: "approve-by", name: "by", maxlength: 120, autocomplete: "name" }),
    ],
    confirm: `Approve ${plural(plan.objects, "object")}, ${bytes(plan.bytes)}`,
    danger: true,
    act: (form) => ask("POST", `operations/${plan.operation_id}/approve`, { body: { plan_digest: plan.plan_digest, by: form.get("by").trim() }, timeout: LONG }),
  });
  if (!approved) return null;
  announce(`Approved: ${plural(approved.objects, "object")}.`);
  await confirm({
    title: `Approved: ${plural(approved.objects, "object")}, ${bytes(approved.bytes)}`,
    content: h("p", {}, "The next cycle sweeps this plan. It can also begin now."),
    confirm: "Sweep it now",
    back: "Leave it to the next cycle",
    act: () => ask("POST", "run", { query: { operation_id: approved.operation_id }, timeout: LONG }),
  });
  return approved;
}

const guards = (title, found) =>
  found.length ? [h("h3", {}, title), h("ul", { class: "plain" }, found.map((guard) => h("li", {}, guard.message ? foreign(guard.message, { kind: "said" }) : guardName(guard))))] : null;

// First what and how, then the count (a dry run of the server's), then the question with the numbers.
export async function restore(operation, live) {
  const chosen = await confirm({
    title: "Restore from the vault",
    content: [
      h("p", {}, "Brings back what this operation deleted from ", foreign(operation.bucket), ", as it was. First it is only counted."),
      h("fieldset", {}, h("legend", {}, "What"),
        choice("all", "Everything that the operation deleted", true),
        choice("prefix", "What is under a prefix", false),
        choice("key", "One object"),
        h("label", { for: "restore-text" }, "Prefix or key"),
        h("input", { id: "restore-text", name: "text", class: "key", spellcheck: "false", autocapitalize: "off", autocomplete: "off", maxlength: 1024, oninput: pickText })),
      h("div", { class: "choice" },
        h("input", { type: "checkbox", id: "restore-skip", name: "skip", checked: true }),
        h("div", {}, h("label", { for: "restore-skip" }, "Leave alone what is there again"),
          h("p", { class: "muted small" }, "Otherwise an object that was written since is replaced by the one from the vault."))),
    ],
    confirm: "Count what would come back",
    act: async (form) => {
      const body = request(form);
      return { body, counted: await ask("POST", `restore/${operation.operation_id}`, { body: { ...body, dry_run: true }, timeout: LONG }) };
    },
  });
  if (!chosen) return null;
  const { body, counted } = chosen;
  const some = counted.restored_count > 0;
  const accepted = await confirm({
    title: some ? `Restore ${plural(counted.restored_count, "object")}?` : "Nothing would come back",
    content: [
      facts([
        ["Would come back", `${plural(counted.restored_count, "object")}, ${bytes(counted.restored_bytes)}`],
        counted.skipped_count && [body.skip_existing ? "Are there, stay as they are" : "Skipped", plural(counted.skipped_count, "object")],
        counted.failed_count && ["Cannot be restored", plural(counted.failed_count, "object")],
        ["Into", foreign(operation.bucket)],
        ["What is there", body.skip_existing ? "is left alone" : "is replaced"],
      ]),
      keys("Would come back", counted.restored_keys, counted.restored_count),
      keys("Cannot be restored", Object.keys(counted.failed_keys), counted.failed_count),
      sayings(counted.errors),
      sayings(counted.warnings),
    ],
    confirm: some ? `Restore ${plural(counted.restored_count, "object")}, ${bytes(counted.restored_bytes)}` : "",
    danger: some && !body.skip_existing,
    act: () => ask("POST", `restore/${operation.operation_id}`, { query: { wait: false }, body: { ...body, dry_run: false }, timeout: LONG }),
  });
  if (!accepted) return null;
  announce("The restore has started.");
  await live.refresh();
  return accepted;
}

const choice = (value, name, checked = false) =>
  h("div", { class: "choice" }, h("input", { type: "radio", name: "what", id: `restore-${value}`, value, checked }), h("label", { for: `restore-${value}` }, name));

// Whoever types a key or a prefix does not mean everything.
function pickText(event) {
  const all = event.target.form.elements["restore-all"];
  if (event.target.value && all.checked) event.target.form.elements["restore-prefix"].checked = true;
}

function request(form) {
  const text = form.get("text");
  const what = form.get("what");
  // An empty field must never widen the restore to everything.
  if (what !== "all" && !text) throw Object.assign(new Error(), { status: 422, kind: "invalid", detail: `Type the ${what} that is meant.` });
  return {
    skip_existing: form.get("skip") !== null,
    ...(what === "prefix" ? { prefixes: [text] } : {}),
    ...(what === "key" ? { keys: [text] } : {}),
  };
}

const keys = (title, found, whole) =>
  found.length ? h("details", {}, h("summary", {}, `${title}: ${whole > KEYS_SHOWN ? `${KEYS_SHOWN} of ${count(whole)} keys` : plural(found.length, "key")}`),
    h("ul", { class: "keys" }, found.slice(0, KEYS_SHOWN).map((key) => h("li", {}, foreign(key))))) : null;

const sayings = (found) =>
  found.length ? h("ul", { class: "plain" }, found.slice(0, KEYS_SHOWN).map((each) => h("li", {}, foreign(each, { kind: "said" })))) : null;
