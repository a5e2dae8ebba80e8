// Elements, made one by one. There is no way in here to turn text into HTML, and the page's policy allows none.

import { pieces, visible, when, ago } from "./text.js";

// An element: h("p", { class: "muted", onclick }, "text", another). null and false children are left out.
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...flat(children));
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...flat(children));
  return element;
}

const flat = (children) => children.flat(Infinity).filter((each) => each !== null && each !== undefined && each !== false);

// A stranger's text (a key, an error): isolated from the text around it, its escapes told apart from its letters.
export function foreign(text, { kind = "key", limit = 0 } = {}) {
  if (limit && visible(text).length > limit) return h("bdi", { class: kind, title: visible(text) }, visible(text, limit));
  return h("bdi", { class: kind }, pieces(text).map(([piece, escaped]) => (escaped ? h("span", { class: "escape" }, piece) : piece)));
}

export const moment = (value) => (value ? h("time", { datetime: value, title: when(value) }, ago(value)) : "–");

export const badge = (tone, text) => h("span", { class: `badge ${tone}` }, text);

// New children for `target`, without losing the focus of whoever is in there (by the id of the focused element).
export function replace(target, ...children) {
  const focused = target.contains(document.activeElement) ? document.activeElement.id : "";
  const open = new Set([...target.querySelectorAll("details[open]")].map((each) => each.id).filter(Boolean));
  target.replaceChildren(...flat(children));
  for (const id of open) document.getElementById(id)?.setAttribute("open", "");
  if (focused) document.getElementById(focused)?.focus();
}

export function card(title, { id, tone = "", actions = null } = {}, ...children) {
  return h("section", { class: `card ${tone}`.trim(), "aria-labelledby": id },
    actions ? h("div", { class: "card-top" }, h("h2", { id }, title), h("div", { class: "actions" }, actions)) : h("h2", { id }, title),
    children);
}

export const figure = (name, value, remark = "") =>
  h("div", { class: "figure" }, h("p", { class: "name" }, name), h("p", { class: "value" }, value), h("p", { class: "remark" }, remark));

export const figures = (label, found) =>
  h("section", { class: `figures columns-${Math.ceil(found.length / Math.ceil(found.length / 6))}`, "aria-label": label }, found);

// Wide tables scroll within themselves, never the page; a keyboard reaches them.
export const scroll = (label, table) => h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, table);

export const facts = (pairs) =>
  h("dl", {}, pairs.filter(Boolean).map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));

// The same side by side, where there is room.
export const factRow = (pairs) =>
  h("dl", { class: "row" }, pairs.filter(Boolean).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));

export const number = (value) => h("td", { class: "number" }, value);

// Said once by a screen reader, when it has nothing else to say.
export function announce(sentence) {
  const region = document.getElementById("status");
  region.textContent = "";
  setTimeout(() => { region.textContent = sentence; }, 50);
}
