// How things are written and drawn: elements, times, numbers, the shape of a severity.

const SVG = "http://www.w3.org/2000/svg";

/** An HTML element; text children are text, never markup. */
export function h(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/** The same for SVG. */
export function s(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(9).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

const SHAPES = {
  CRITICAL: "M5 1h6l4 4v6l-4 4H5l-4-4V5z",
  ERROR: "M8 1l7.5 14H.5z",
  WARNING: "M8 .5L15.5 8 8 15.5.5 8z",
  INFO: "M8 1.5a6.5 6.5 0 100 13 6.5 6.5 0 000-13z",
};
export const SEVERITIES = ["CRITICAL", "ERROR", "WARNING"];
export const RANK = { CRITICAL: 3, ERROR: 2, WARNING: 1, INFO: 0 };

/** The mark of a severity for the inside of a drawing, 16 x 16. */
export function shape(severity, attributes = {}) {
  return s("path", { d: SHAPES[severity] ?? SHAPES.INFO, class: `shape ${severity}`, ...attributes });
}

/** Shape and word: nobody has to tell colours apart. */
export function badge(severity, text = severity) {
  const mark = s("svg", { viewBox: "0 0 16 16", width: 12, height: 12, "aria-hidden": "true" }, shape(severity));
  return h("span", { class: `badge ${severity}` }, mark, text);
}

const two = (n) => String(n).padStart(2, "0");

/** Time of day in UTC; with the date when it is not the day of `near`. */
export function time(ms, near = null) {
  if (ms === null || ms === undefined) return "–";
  const at = new Date(ms);
  const clock = `${two(at.getUTCHours())}:${two(at.getUTCMinutes())}:${two(at.getUTCSeconds())}`;
  const sameDay = near !== null && new Date(near).toISOString().slice(0, 10) === at.toISOString().slice(0, 10);
  return sameDay ? clock : `${at.toISOString().slice(0, 10)} ${clock}`;
}

/** Hours and minutes in UTC. */
export function shortTime(ms) {
  return new Date(ms).toISOString().slice(11, 16);
}

/** A span of time in its two largest units. */
export function span(ms) {
  if (ms === null || ms === undefined) return "–";
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${two(seconds % 60)} s`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${two(Math.floor((seconds % 3600) / 60))} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.floor((seconds % 86400) / 3600)} h`;
}

/** A number with so many digits after the point, thousands apart; a dash for none. */
export function number(value, digits = 0) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  return value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

/** A name of a rule or family in words. */
export function words(name) {
  return (name ?? "").replace(/[_-]/g, " ");
}

/** Keep the children of `parent` as `items` say, and the elements whose key has not changed: focus and scroll stay. */
export function keep(parent, items, key, build) {
  const before = parent.kept ?? new Map();
  const after = new Map();
  const wanted = items.map((item) => {
    const name = key(item);
    const element = before.get(name) ?? build(item);
    after.set(name, element);
    return element;
  });
  parent.kept = after;
  const children = parent.children;
  wanted.forEach((element, at) => {
    if (children[at] !== element) parent.insertBefore(element, children[at] ?? null);
  });
  while (children.length > wanted.length) parent.lastElementChild.remove();
}

/** The value below which a share of the values lies. */
export function quantile(values, share) {
  if (!values.length) return null;
  const ordered = [...values].sort((a, b) => a - b);
  return ordered[Math.max(0, Math.ceil(share * ordered.length) - 1)];
}
