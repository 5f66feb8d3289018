// The feeders at the latest window end, and the meters of one of them.

import { badge, h, number, s, SEVERITIES, span, time } from "./format.js";
import { ask, state } from "./store.js";

const AGAIN_MS = 4000;
const SCALE = [0.85, 1.15];

const view = { found: null, meters: null, feeder: null, problem: null, asked: 0, order: "worst" };
let parts = null;

/** Build the view once. */
export function build(argument) {
  view.feeder = argument ?? null;
  view.meters = null;
  parts = { head: h("p", { class: "count" }), content: h("div", {}) };
  refresh();
  return h("section", { class: "panel", "aria-label": "Feeders" },
    h("div", { class: "filters" }, h("h2", {}, view.feeder === null ? "Feeders" : ["Feeder ", view.feeder || "(none)"]),
      view.feeder === null ? "" : h("a", { href: "#/feeders" }, "all feeders"), parts.head),
    parts.content);
}

/** Called on every change. */
export function render() {
  if (performance.now() - view.asked > AGAIN_MS) refresh();
  else draw();
}

async function refresh() {
  view.asked = performance.now();
  const feeder = view.feeder;
  try {
    const found = await ask(feeder === null ? "api/feeders" : `api/meters?feeder=${encodeURIComponent(feeder)}`);
    if (feeder !== view.feeder) return;
    Object.assign(view, feeder === null ? { found } : { meters: found }, { problem: null });
  } catch (problem) {
    view.problem = problem.message;
  }
  draw();
}

function draw() {
  const found = view.feeder === null ? view.found : view.meters;
  if (!found) {
    parts.content.replaceChildren(h("p", { class: "empty" }, view.problem ?? "reading the tables"));
    return;
  }
  parts.head.textContent = view.problem ?? (found.at ? `window ending ${time(found.at, state.clock)} UTC` : "no window has closed yet");
  const key = JSON.stringify([found, counts()]);
  if (parts.content.drawn === key) return;
  parts.content.drawn = key;
  const held = document.activeElement?.getAttribute("href");
  parts.content.replaceChildren(view.feeder === null ? feederTable(found.rows) : meterTable(found.rows));
  if (held) parts.content.querySelector(`a[href="${CSS.escape(held)}"]`)?.focus();
}

function counts() {
  const open = {};
  for (const incident of state.incidents.values()) {
    if (incident.status !== "open") continue;
    for (const name of [`f|${incident.feederId}`, incident.meterId && `m|${incident.meterId}`].filter(Boolean)) {
      open[name] ??= {};
      open[name][incident.severity] = (open[name][incident.severity] ?? 0) + 1;
    }
  }
  return open;
}

function badges(open) {
  const some = SEVERITIES.filter((severity) => open?.[severity]);
  return some.length ? some.map((severity) => [badge(severity, `${open[severity]} ${severity}`), " "]) : h("span", { class: "quiet" }, "none");
}

function weight(open) {
  return (open?.CRITICAL ?? 0) * 1e6 + (open?.ERROR ?? 0) * 1e3 + (open?.WARNING ?? 0);
}

function feederTable(rows) {
  const open = counts();
  const ordered = [...rows].sort((a, b) => weight(open[`f|${b.feeder}`]) - weight(open[`f|${a.feeder}`]) || a.feeder.localeCompare(b.feeder));
  return table(["Feeder", "Open incidents", "Meters sending", "Mean", "Least to largest, in the band of ±10 %", "Mean outside", "Transformer"], ordered.map((row) => [
    h("a", { href: `#/feeders/${encodeURIComponent(row.feeder)}` }, row.feeder || "(none)"),
    badges(open[`f|${row.feeder}`]),
    [`${row.reporting} of ${row.meters}`, row.reporting < row.meters ? h("b", {}, ` ${row.meters - row.reporting} silent`) : ""],
    num(`${number(row.meanV, 1)} V`),
    [range(row.minV, row.meanV, row.maxV, row.un), h("span", { class: "num quiet" }, ` ${number(row.minV, 1)} to ${number(row.maxV, 1)}`)],
    row.outside ? h("b", {}, number(row.outside)) : num("0"),
    row.transformer ?? "–",
  ]));
}

function meterTable(rows) {
  const open = counts();
  const off = (row) => (row.n ? Math.abs(row.meanV / row.un - 1) : 9);
  const ordered = [...rows].sort((a, b) => weight(open[`m|${b.meter}`]) - weight(open[`m|${a.meter}`]) || off(b) - off(a));
  return table(["Meter", "Open incidents", "Mean", "Least to largest", "Off its feeder", "Largest current", "Last reading", "Phase"], ordered.map((row) => [
    h("a", { href: `#/meter/${encodeURIComponent(row.meter)}` }, row.meter),
    badges(open[`m|${row.meter}`]),
    row.n ? num(`${number(row.meanV, 1)} V`) : h("b", {}, "silent"),
    row.n ? [range(row.minV, row.meanV, row.maxV, row.un), h("span", { class: "num quiet" }, ` ${number(row.minV, 1)} to ${number(row.maxV, 1)}`)] : "",
    num(row.residualV === null ? "–" : `${row.residualV > 0 ? "+" : ""}${number(row.residualV, 1)} V`),
    num(row.maxCurrentA === null ? "–" : `${number(row.maxCurrentA, 1)} A`),
    num(row.last ? `${span((view.meters.at ?? row.last) - row.last)} before` : "–"),
    row.phase ?? "–",
  ]));
}

function num(text) {
  return h("span", { class: "num" }, text);
}

function table(names, rows) {
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Table" }, h("table", {},
    h("thead", {}, h("tr", {}, names.map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, rows.map((cells) => h("tr", {}, cells.map((cell) => h("td", {}, cell)))))));
}

/** Least, mean and largest voltage on a scale of 0.85 to 1.15 Un, with the band of 0.9 to 1.1. */
function range(low, mean, high, un) {
  if (mean === null) return "";
  const x = (v) => Math.min(120, Math.max(0, ((v / un - SCALE[0]) / (SCALE[1] - SCALE[0])) * 120));
  return s("svg", { viewBox: "0 0 120 14", width: 120, height: 14, class: "range", "aria-hidden": "true" },
    s("rect", { class: "band", x: x(un * 0.9), y: 2, width: x(un * 1.1) - x(un * 0.9), height: 10 }),
    s("line", { class: "span", x1: x(low), x2: x(high), y1: 7, y2: 7 }),
    s("circle", { class: "mean", cx: x(mean), cy: 7, r: 3 }));
}
