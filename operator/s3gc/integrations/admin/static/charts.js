// The report's marks (s3gc.report.charts), drawn here: words and numbers stand beside them as text.

import { h, svg } from "./dom.js";
import { count, percent } from "./text.js";

// A horizontal bar; `share` is of the longest one. Anything that is there is at least a hair wide.
export function bar(share, label, colour = "accent") {
  const width = share <= 0 ? 0 : Math.min(100, Math.max(0.8, 100 * share));
  return svg("svg", { class: "bar-mark", viewBox: "0 0 100 10", preserveAspectRatio: "none", role: "img", "aria-label": label },
    svg("rect", { class: "track", width: 100, height: 10 }),
    svg("rect", { class: `fill-${colour}`, width: width.toFixed(2), height: 10 }));
}

// An upright bar of a histogram; `share` is of the tallest one.
export function column(share, label, colour = "accent") {
  const height = share <= 0 ? 0 : Math.min(100, Math.max(1, 100 * share));
  return svg("svg", { class: "column", viewBox: "0 0 10 100", preserveAspectRatio: "none", role: "img", "aria-label": label },
    svg("rect", { class: "track", y: 99, width: 10, height: 1 }),
    svg("rect", { class: `fill-${colour}`, y: (100 - height).toFixed(2), width: 10, height: height.toFixed(2) }));
}

// Parts from [label, value, text], without the empty ones; colours follow the order given.
export function partsOf(values) {
  const whole = values.reduce((sum, [, value]) => sum + value, 0);
  return values.map(([label, value, text], index) => ({ label, value, text, share: value / whole, colour: `c${(index % 12) + 1}` }))
    .filter((part) => part.value > 0);
}

// Parts of a whole side by side. Slivers stay visible, at the cost of the widest part.
export function stacked(parts, label) {
  const widths = parts.map((part) => Math.max(0.35, 100 * part.share));
  const scale = 100 / widths.reduce((sum, width) => sum + width, 0);
  let left = 0;
  return svg("svg", { class: "stacked", viewBox: "0 0 100 10", preserveAspectRatio: "none", role: "img", "aria-label": label },
    parts.map((part, index) => {
      const width = widths[index] * scale;
      const mark = svg("rect", { class: `fill-${part.colour}`, x: left.toFixed(3), width: Math.max(0.1, width - 0.15).toFixed(3), height: 10 },
        svg("title", {}, `${part.label}: ${part.text}`));
      left += width;
      return mark;
    }));
}

export const swatch = (colour) =>
  svg("svg", { class: "swatch", viewBox: "0 0 10 10", "aria-hidden": "true" }, svg("rect", { class: `fill-${colour}`, width: 10, height: 10, rx: 4 }));

export const legend = (parts, whole = 0) =>
  h("ul", { class: "legend" }, parts.map((part) =>
    h("li", {}, swatch(part.colour), h("span", {}, part.label), " ", h("strong", {}, part.text), whole ? h("span", { class: "muted" }, ` ${percent(part.value, whole)}`) : null)));

const shares = (bins, by) => {
  const longest = Math.max(0, ...bins.map((each) => each[by]));
  return bins.map((each) => [each, longest ? each[by] / longest : 0]);
};

// Without the empty bins at both ends.
const trimmed = (bins) => {
  const filled = bins.flatMap((each, index) => (each.objects ? [index] : []));
  return filled.length ? bins.slice(filled[0], filled.at(-1) + 1) : bins;
};

export const histogram = (bins, label, describe) =>
  h("ol", { class: "columns", "aria-label": label }, shares(bins, "objects").map(([each, share]) =>
    h("li", {}, h("span", { class: "top-label" }, each.objects ? count(each.objects) : ""), column(share, describe(each)), h("span", { class: "bottom-label" }, each.label))));

// A table of bars: [heading, …] and for each bin [name, label of the bar, …cells].
export function bars(headings, bins, { by = "bytes", colour = "accent", trim = false }, row) {
  return h("table", { class: "bars" },
    h("thead", {}, h("tr", {}, headings.map((each, index) =>
      h("th", { scope: "col", class: index > 1 ? "number" : null }, index === 1 ? h("span", { class: "hidden" }, each) : each)))),
    h("tbody", {}, shares(trim ? trimmed(bins) : bins, by).map(([each, share]) => {
      const [name, label, first, second] = row(each);
      return h("tr", {}, h("th", { scope: "row" }, name), h("td", { class: "bar-cell" }, bar(share, label, colour)),
        h("td", { class: "number" }, first), h("td", { class: "number muted last" }, second));
    })));
}
