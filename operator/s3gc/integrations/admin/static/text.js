// Numbers, times and keys as people read them: the same words as the report and the terminal (s3gc.report.text).

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
const SPANS = [
  [2 * 365 * 86400, 365 * 86400, "y"],
  [90 * 86400, 30 * 86400, "mo"],
  [86400, 86400, "d"],
  [3600, 3600, "h"],
  [60, 60, "min"],
];
const ESCAPES = new Map([["\n", "\\n"], ["\r", "\\r"], ["\t", "\\t"], ["\\", "\\\\"]]);
// Control, format (bidi, zero width), surrogate, private, unassigned; separators; and letters that show as nothing.
const HIDDEN = /[\p{C}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}\u2800]/u;
const SPACE = /\p{Zs}/u;
const NUMBERS = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });

// [piece, isEscape] for each run of `text`: a stranger's text with everything that does not show made visible.
export function pieces(text) {
  const found = [];
  for (const letter of String(text)) {
    const escape = escapeOf(letter);
    const last = found.at(-1);
    if (last && last[1] === (escape !== null)) last[0] += escape ?? letter;
    else found.push([escape ?? letter, escape !== null]);
  }
  return found;
}

export function visible(text, limit = 0) {
  let shown = pieces(text).map(([piece]) => piece).join("");
  if (limit && shown.length > limit) {
    const letters = [...shown];
    const head = Math.max(1, Math.floor((limit - 1) / 2));
    if (letters.length > limit) shown = `${letters.slice(0, head).join("")}…${letters.slice(letters.length - (limit - 1 - head)).join("")}`;
  }
  return shown;
}

function escapeOf(letter) {
  if (ESCAPES.has(letter)) return ESCAPES.get(letter);
  if (!HIDDEN.test(letter) && !(letter !== " " && SPACE.test(letter))) return null;
  const code = letter.codePointAt(0);
  return code < 0x10000 ? `\\u${code.toString(16).padStart(4, "0")}` : `\\U${code.toString(16).padStart(8, "0")}`;
}

export function bytes(size) {
  let value = Number(size);
  let unit = 0;
  while (Math.abs(value) >= 999.5 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  if (unit === 0) return `${value.toFixed(0)} B`;
  return Math.abs(value) < 99.95 ? `${value.toFixed(1)} ${UNITS[unit]}` : `${value.toFixed(0)} ${UNITS[unit]}`;
}

export const count = (number) => NUMBERS.format(number);

export const plural = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;

export function percent(part, whole) {
  if (!whole) return "–";
  const value = (100 * part) / whole;
  if (value > 0 && value < 0.1) return "<0.1 %";
  if (value > 99.9 && value < 100) return ">99.9 %";
  return value === 0 || value === 100 || value >= 10 ? `${value.toFixed(0)} %` : `${value.toFixed(1)} %`;
}

export function money(dollars) {
  if (dollars > 0 && dollars < 0.01) return "<$0.01";
  return dollars < 1000 ? `$${dollars.toFixed(2)}` : `$${count(dollars)}`;
}

export function duration(seconds) {
  if (seconds < 9.95) return `${Math.max(0, seconds).toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  for (const [size, unit, smaller, small] of [[86400, "d", 3600, "h"], [3600, "h", 60, "min"], [60, "min", 1, "s"]]) {
    if (whole >= size) {
      const rest = Math.floor((whole % size) / smaller);
      return `${Math.floor(whole / size)} ${unit}${rest ? ` ${rest} ${small}` : ""}`;
    }
  }
  return `${whole} s`;
}

export function ago(moment, now = Date.now()) {
  if (!moment) return "–";
  const gap = (now - Date.parse(moment)) / 1000;
  const seconds = Math.abs(gap);
  if (seconds < 60) return gap < 0 ? "in a moment" : "just now";
  for (const [least, size, unit] of SPANS) {
    if (seconds >= least) {
      const text = `${Math.floor(seconds / size)} ${unit}`;
      return gap < 0 ? `in ${text}` : `${text} ago`;
    }
  }
  return "just now";
}

// UTC everywhere, as in the logs, the records and the command line: nobody has to add hours in their head at night.
export const when = (moment) => (moment ? `${new Date(moment).toISOString().slice(0, 19).replace("T", " ")} UTC` : "–");

export const day = (moment) => (moment ? new Date(moment).toISOString().slice(0, 10) : "–");

export const words = (name) => String(name).replaceAll("_", " ");

export const days = (number) => {
  if (number < 1 / 24) return duration(number * 86400);
  if (number < 2) return `${trimmed(number * 24)} h`;
  return `${trimmed(number)} days`;
};

const trimmed = (number) => String(Math.round(number * 10) / 10);
