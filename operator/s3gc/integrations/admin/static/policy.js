// The policy as the application gave it, without its secrets; its sources are told as databases.

import { get } from "./api.js";
import { card, facts, foreign, h, replace } from "./dom.js";
import { words } from "./text.js";

export async function policy({ main, heading, signal, title, fail }) {
  title("Policy");
  const body = h("div", { class: "stack" }, h("p", { class: "muted" }, "Reading the policy …"));
  main.append(h("header", { class: "top" }, h("p", { class: "kind" }, "As the application gave it; secrets are not shown"), heading), body);
  try {
    const { settings, databases } = await get("config", {}, { signal });
    replace(body, databases.map(databaseCard), card("Settings", { id: "settings" },
      facts(Object.entries(settings).filter(([name]) => name !== "sources").map(([name, value]) => [foreign(name, { kind: "code" }), shown(value)]))));
  } catch (problem) {
    replace(body);
    fail(problem, body);
  }
}

const databaseCard = (database, index) =>
  card(["Database ", foreign(database.name, { kind: "said" })], { id: `database-${index}` }, facts([
    ["Where", foreign(database.location)],
    database.tables.length && ["Tables", list(database.tables)],
    database.queries.length && ["Queries", list(database.queries)],
    ["Change capture", database.cdc ? foreign(database.cdc, { kind: "said" }) : "off"],
  ]));

const list = (found) => h("ul", { class: "bare" }, found.map((each) => h("li", {}, foreign(each))));

function shown(value) {
  if (value === null || value === "") return h("span", { class: "muted" }, "not set");
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (Array.isArray(value)) return value.length ? list(value.map(flat)) : h("span", { class: "muted" }, "none");
  if (typeof value === "object") return Object.keys(value).length ? list(Object.entries(value).map(([name, each]) => `${words(name)}: ${flat(each)}`)) : h("span", { class: "muted" }, "none");
  return foreign(value);
}

const flat = (value) => (typeof value === "string" ? value : JSON.stringify(value));
