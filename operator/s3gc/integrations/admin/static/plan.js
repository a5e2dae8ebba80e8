// A plan to look through: a page of keys at a time, each with the reason why it is planned and what became of it.

import { get } from "./api.js";
import { announce, badge, card, foreign, h, moment, replace, scroll } from "./dom.js";
import { bytes, plural, words } from "./text.js";

const PAGE = 50;
const TONES = { deleted: "good", backed_up: "good", restored: "info", purged: "good", failed: "bad", skipped: "quiet", kept: "quiet" };

export function planCard(id, { signal, fail }) {
  const body = h("div", { "aria-busy": "true" }, h("p", { class: "muted" }, "Reading the plan …"));
  const summary = h("p", { class: "muted" });
  const pager = h("div", { class: "actions pager" });
  const prefix = h("input", { id: "plan-prefix", name: "prefix", class: "key", maxlength: 1024, spellcheck: "false", autocapitalize: "off", autocomplete: "off" });
  const form = h("form", { class: "filter", role: "search", "aria-label": "The plan", onsubmit: (event) => { event.preventDefault(); begin(); } },
    h("label", { for: "plan-prefix" }, "Only keys that begin with"), h("div", { class: "field" }, prefix, h("button", { type: "submit", id: "plan-filter" }, "Show")));
  const element = card("The plan", { id: "plan" }, summary, form, body, pager);
  element.querySelector("h2").tabIndex = -1;
  let trail = [null]; // the `after` of every page up to the one that is shown
  let shownPrefix = "";

  async function load(moved) {
    body.setAttribute("aria-busy", "true");
    try {
      const page = await get(`operations/${id}/plan`, { limit: PAGE, after: trail.at(-1), prefix: shownPrefix }, { signal });
      show(page);
      if (moved) {
        announce(page.items.length ? `Page ${trail.length}, ${plural(page.items.length, "object")}` : "No objects");
        element.scrollIntoView({ block: "start" });
      }
    } catch (problem) {
      // Without a plan there is nothing to look through; that is no failure.
      form.hidden = problem.kind === "refused";
      replace(body, problem.kind === "refused" ? h("p", {}, foreign(problem.detail, { kind: "said" })) : null);
      if (problem.kind !== "refused") fail(problem, body, () => load(moved));
    } finally {
      body.removeAttribute("aria-busy");
    }
  }

  function show(page) {
    replace(summary, page.objects ? `${plural(page.objects, "object")}, ${bytes(page.bytes)}, in the order of their keys.` : "");
    form.hidden = !page.objects;
    if (!page.objects) replace(body, h("p", {}, "This operation planned nothing."));
    else if (!page.items.length) replace(body, h("p", {}, "No planned key begins with ", foreign(shownPrefix), "."));
    else replace(body, scroll("The plan, table", table(page.items)));
    const back = trail.length > 1;
    replace(pager, back || page.next_after ? [
      button("plan-back", "Previous page", back, () => { trail.pop(); load(true); }),
      h("span", { class: "muted" }, `Page ${trail.length}`),
      button("plan-next", "Next page", page.next_after !== null, () => { trail.push(page.next_after); load(true); }),
    ] : null);
  }

  function begin() {
    shownPrefix = prefix.value;
    trail = [null];
    load(true);
  }

  return { element, load };
}

// Not `disabled` but said to be: on the last page the focus stays where it is.
const button = (id, text, able, act) =>
  h("button", { type: "button", id, "aria-disabled": able ? null : "true", onclick: () => able && act() }, text);

function table(items) {
  const done = items.some((item) => item.action);
  return h("table", { class: "cards plan" },
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Key"), h("th", { scope: "col" }, "Why"), h("th", { scope: "col", class: "number" }, "Size"),
      h("th", { scope: "col", class: "number" }, "Modified"), done ? h("th", { scope: "col" }, "What became of it") : null)),
    h("tbody", {}, items.map((item) => h("tr", {},
      h("th", { scope: "row" }, h("a", { href: `#/explain?key=${encodeURIComponent(item.key)}` }, foreign(item.key))),
      h("td", { class: "why" }, foreign(item.reason, { kind: "said" })),
      h("td", { class: "number" }, bytes(item.size), item.storage_class && item.storage_class !== "STANDARD" ? h("span", { class: "muted small beneath" }, ` ${item.storage_class}`) : null),
      h("td", { class: "number" }, moment(item.last_modified)),
      done ? h("td", { class: "became" }, item.action ? [badge(TONES[item.action] ?? "quiet", words(item.action)), item.action_reason ? h("p", { class: "small muted" }, foreign(words(item.action_reason), { kind: "said" })) : null] : "–") : null))));
}
