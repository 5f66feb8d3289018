// One meter: its voltage, what was expected of it, the limits, what was found.

import { badge, h, number, time, words } from "./format.js";
import { ask, state } from "./store.js";
import { chart } from "./chart.js";

const SPANS = [[15, "15 min"], [60, "1 h"], [360, "6 h"], [1440, "24 h"]];
const FOLLOW_MS = 3000;

const view = { id: null, minutes: 60, follow: true, series: null, problem: null, asked: 0, table: false };
let parts = null;

/** The chart of a meter's answer. */
export function voltage(series, { width = 900, height = 320, cursor = true } = {}) {
  const values = series.readings.map(([, v]) => v);
  const bands = series.expected.filter((row) => row.low !== null);
  const plausible = values.filter((v) => v > series.un * 0.5 && v < series.un * 1.5);
  const spread = (plausible.length ? plausible : [series.un]).concat(bands.map((row) => row.low), bands.map((row) => row.high));
  const [warnBelow, warnAbove] = ["WARNING below", "WARNING above"].map((name) => series.limits.find((one) => one.name === name).v);
  let low = Math.min(...spread, warnBelow);
  let high = Math.max(...spread, warnAbove);
  if (values.some((v) => v < low)) low = Math.max(0, Math.min(...values));
  [low, high] = [Math.max(0, low - (high - low) * 0.05), high + (high - low) * 0.05];
  const byTime = new Map(series.readings);
  const baseline = series.expected.map((row) => [row.t, row.mean]);
  const limits = series.limits.map((limit) => ({ ...limit, name: `${number(limit.v, 0)} ${limit.name.split(" ")[0].toLowerCase()}`, class: limit.name.split(" ")[0] }));
  return chart({
    start: series.start, end: series.end, low, high, width, height, cursor, limits, band: bands, unit: "V",
    gap: typicalGap(series.readings) * 4,
    lines: [
      { points: series.readings, class: "voltage", name: "voltage" },
      { points: baseline, class: "baseline", name: "baseline", gap: typicalGap(baseline) * 4 },
    ],
    marks: series.anomalies.slice(0, 300).map((one) => ({ t: one.eventTime, severity: one.severity, v: byTime.get(one.eventTime) ?? one.observed ?? series.un }))
      .filter((mark) => mark.v !== null).reverse(),
    label: `Voltage of ${series.meter}: ${number(series.count)} readings from ${time(series.start)} to ${time(series.end, series.start)} UTC, `
      + `${number(Math.min(...values), 1)} to ${number(Math.max(...values), 1)} V, ${series.anomalies.length} findings`,
  });
}

function typicalGap(points) {
  const gaps = points.slice(1).map(([t], at) => t - points[at][0]).sort((a, b) => a - b);
  return gaps.length ? gaps[gaps.length >> 1] : 0;
}

/** Build the view once. */
export function build(argument) {
  if (argument && argument !== view.id) Object.assign(view, { id: argument, series: null, problem: null, asked: 0 });
  const names = h("datalist", { id: "meters" });
  const search = h("input", {
    type: "search", id: "search", list: "meters", value: view.id ?? "", placeholder: "meter  ( / )", "aria-label": "Meter",
    autocomplete: "off", spellcheck: "false",
    oninput: async (event) => {
      const found = await ask(`api/meters?q=${encodeURIComponent(event.target.value)}`).catch(() => []);
      names.replaceChildren(...found.map((one) => h("option", { value: one.meter }, one.feeder ?? "")));
    },
    onchange: (event) => { if (event.target.value) location.hash = `#/meter/${encodeURIComponent(event.target.value.trim())}`; },
  });
  const spans = h("select", { "aria-label": "Span", onchange: (event) => { view.minutes = Number(event.target.value); refresh(); } },
    SPANS.map(([minutes, text]) => h("option", { value: minutes, selected: minutes === view.minutes }, text)));
  const follow = h("input", { type: "checkbox", onchange: (event) => { view.follow = event.target.checked; } });
  follow.checked = view.follow;
  const table = h("input", { type: "checkbox", onchange: (event) => { view.table = event.target.checked; draw(); } });
  table.checked = view.table;
  parts = { title: h("h2", {}), content: h("div", {}) };
  refresh();
  return h("section", { class: "panel", "aria-label": "Meter" },
    h("div", { class: "filters" }, search, names, spans, h("label", { class: "check" }, follow, "follow"),
      h("label", { class: "check" }, table, "as a table")),
    parts.title, parts.content);
}

/** Called on every change: asks again from time to time when it follows. */
export function render() {
  if (view.follow && performance.now() - view.asked > FOLLOW_MS && !document.activeElement?.closest("svg.chart")) refresh();
}

async function refresh() {
  view.asked = performance.now();
  if (!view.id) {
    parts.title.textContent = "";
    parts.content.replaceChildren(h("p", { class: "empty" }, "Name a meter above, or choose one of a feeder."));
    return;
  }
  const id = view.id;
  try {
    const found = await ask(`api/meter?id=${encodeURIComponent(id)}&minutes=${view.minutes}`);
    if (view.id !== id) return;
    const same = JSON.stringify(found) === JSON.stringify(view.series);
    Object.assign(view, { series: found, problem: null });
    if (same && parts.content.childElementCount) return;
  } catch (problem) {
    view.problem = problem.message;
  }
  draw();
}

function draw() {
  const { series, problem } = view;
  if (!series) {
    parts.content.replaceChildren(h("p", { class: "empty" }, problem ?? "reading the tables"));
    return;
  }
  const known = series.known;
  const place = known && [known.feederId && `feeder ${known.feederId}`, known.transformerId && `transformer ${known.transformerId}`,
    known.phase && `phase ${known.phase}`, `Un ${number(series.un)} V`].filter(Boolean).join(" · ");
  parts.title.replaceChildren(series.meter, h("small", {}, " ", place || "not in the table meters"));
  const mine = [...state.incidents.values()].filter((one) => one.meterId === series.meter).sort((a, b) => b.openedAt - a.openedAt).slice(0, 12);
  parts.content.replaceChildren(
    problem ? h("p", { class: "problem" }, problem) : "",
    series.count ? (view.table ? asTable(series) : voltage(series, size()))
      : h("p", { class: "empty" }, "No readings in this span."),
    view.table ? "" : legend(),
    h("h3", {}, "Its incidents"),
    mine.length ? h("ul", { class: "children" }, mine.map((one) => h("li", {}, h("a", { href: `#/incidents/${one.incidentId}` },
      badge(one.severity), " ", words(one.anomalyType), " ", one.status, " ", h("span", { class: "num" }, time(one.openedAt, state.clock))))))
      : h("p", { class: "empty" }, "None at hand."),
  );
}

function size() {
  const width = Math.max(340, Math.min(1400, parts.content.clientWidth || 900));
  return { width, height: width < 600 ? 260 : 340 };
}

function legend() {
  const item = (name, text) => h("span", { class: "item" }, h("span", { class: `key ${name}` }), text);
  return h("p", { class: "legend" }, item("voltage", "voltage"), item("baseline", "mean of the last closed window"),
    item("band", "beyond it: a deviation"), item("limit", "limits of the band"));
}

function asTable(series) {
  const found = new Map(series.anomalies.map((one) => [one.eventTime, one]));
  const rows = series.readings.slice(-500).reverse();
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Readings" }, h("table", {},
    h("thead", {}, h("tr", {}, ["Time (UTC)", "Voltage", "Finding"].map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, rows.map(([t, v]) => h("tr", {}, h("td", { class: "num" }, time(t, series.end)), h("td", { class: "num" }, `${number(v, 1)} V`),
      h("td", {}, found.has(t) ? [badge(found.get(t).severity), " ", words(found.get(t).anomalyType)] : ""))))));
}
