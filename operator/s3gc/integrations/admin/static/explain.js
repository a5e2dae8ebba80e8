// Why one object is kept, or would go.

import { get } from "./api.js";
import { announce, badge, card, facts, foreign, h, moment, replace, scroll } from "./dom.js";
import { bytes, days, visible, when, words } from "./text.js";

export async function explain({ main, heading, signal, title, query, fail }) {
  title("Explain");
  const key = query.get("key") ?? "";
  const input = h("input", { id: "key", name: "key", class: "key", required: true, maxlength: 1024, value: key, spellcheck: "false", autocapitalize: "off", autocomplete: "off", "aria-describedby": "key-help" });
  const answer = h("div", { class: "stack", id: "answer" });
  const form = h("form", { class: "card filter", role: "search", "aria-label": "An object", onsubmit: (event) => { event.preventDefault(); go(); } },
    h("label", { for: "key" }, "Key of an object"),
    h("div", { class: "field" }, input, h("button", { type: "submit", class: "primary" }, "Explain")),
    h("p", { class: "muted small", id: "key-help" }, "Exactly as in the bucket, without the bucket's name. The databases are asked, nothing is changed."));
  main.append(h("header", { class: "top" }, h("p", { class: "kind" }, "One object"), heading), form, answer);

  // The address keeps the key, so that an answer can be bookmarked, and "back" goes to the key before.
  function go() {
    const hash = `#/explain?key=${encodeURIComponent(input.value)}`;
    if (location.hash === hash) ask(input.value);
    else location.hash = hash;
  }

  async function ask(wanted) {
    replace(answer, h("p", { class: "muted" }, "Asking bucket, vault and databases …"));
    try {
      const found = await get("explain", { key: wanted }, { signal });
      replace(answer, cards(found));
      announce(visible(found.sentence));
    } catch (problem) {
      replace(answer);
      fail(problem, answer, () => ask(wanted));
    }
  }

  if (key) await ask(key);
}

const said = (text) => foreign(text, { kind: "said" });

function cards(found) {
  const verdict = !found.exists ? ["quiet", "Not in the bucket"] : found.would_go ? ["warn", "Would go"] : ["good", "Is kept"];
  return [
    card("Answer", { id: "verdict", actions: badge(...verdict) },
      h("p", { class: "verdict-key" }, foreign(found.key)),
      h("p", { class: "sentence" }, said(found.sentence)),
      found.reasons.length > 1 ? h("ul", { class: "plain" }, found.reasons.map((reason) => h("li", {}, said(reason)))) : null,
      found.problem ? h("p", { class: "notice warn" }, said(found.problem)) : null,
      facts([
        found.size !== null && ["Size", bytes(found.size)],
        found.last_modified && ["Modified", [when(found.last_modified), found.age_days === null ? "" : ` (${days(found.age_days)} old; kept while younger than ${days(found.retention_days)})`]],
        found.storage_class && ["Storage class", said(found.storage_class)],
        found.etag && ["ETag", foreign(found.etag)],
        ["In scope", found.in_scope ? "yes" : "no"],
        found.excluded_by && ["Excluded by", foreign(found.excluded_by)],
        found.is_reserved && ["Reserved", "it belongs to s3gc's own vault"],
        found.held_until && ["Held until", [when(found.held_until), found.held_because ? [" (", said(found.held_because), ")"] : ""]],
        found.first_listed && ["First seen", when(found.first_listed)],
        found.first_unreferenced && ["Unreferenced since", when(found.first_unreferenced)],
        found.ripe_at && ["Would be old enough", when(found.ripe_at)],
      ])),
    found.references.length ? card("Named by", { id: "named" }, scroll("References, table", h("table", { class: "cards" },
      h("thead", {}, h("tr", {}, ["Column", "Value"].map((each) => h("th", { scope: "col" }, each)))),
      h("tbody", {}, found.references.map((each) => h("tr", {},
        h("th", { scope: "row" }, said(each.column), h("br"), h("span", { class: "muted small" }, said(each.source))),
        h("td", { class: "wide" }, foreign(each.value), each.prefix ? h("p", { class: "muted small" }, "keeps everything under ", foreign(each.prefix)) : null))))))) : null,
    found.history.length ? card("In the vault", { id: "vault-history" }, scroll("History of the key, table", h("table", { class: "cards" },
      h("thead", {}, h("tr", {}, ["Operation", "What happened", "When"].map((each) => h("th", { scope: "col" }, each)))),
      h("tbody", {}, found.history.map((each) => h("tr", {},
        h("th", { scope: "row" }, h("a", { href: `#/operations/${each.operation_id}` }, h("code", {}, each.operation_id))),
        h("td", {}, words(each.action)), h("td", {}, moment(each.at)))))))) : null,
  ];
}
