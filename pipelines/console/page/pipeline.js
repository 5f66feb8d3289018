// How the pipeline does: throughput, delays, what waits, what was refused.

import { h, number, quantile, span, time } from "./format.js";
import { state } from "./store.js";
import { chart } from "./chart.js";

let parts = null;

/** Build the view once. */
export function build() {
  parts = { content: h("div", { class: "tiles" }) };
  render();
  return h("section", { "aria-label": "Pipeline" }, parts.content);
}

/** Draw anew; once a second. */
export function render() {
  const health = state.health;
  if (!health) {
    parts.content.replaceChildren(h("p", { class: "empty" }, "No figures yet."));
    return;
  }
  if (parts.content.drawn === health.now || parts.content.contains(document.activeElement)) return;
  parts.content.drawn = health.now;
  parts.content.replaceChildren(
    tile("Readings a second", number(health.rate), over([["rate", "readings"]], ""), `${number(health.sent)} in the topic since it began`),
    tile("Findings a second", number(health.findings, 1), over([["findings", "findings"]], "", 1), "anomalies of all stages, as they are appended"),
    tile("Alert after its reading", `${ms(health.latency.p50)} p50, ${ms(health.latency.p99)} p99`, over([["p99", "p99"], ["p50", "p50"]], "ms"),
      `broker time to broker time, last minute, ${number(health.latency.n)} of them`),
    tile("Waiting for the archive", number(health.archiveLag), over([["lag", "records"]], ""), "records in Kafka that are not in the tables yet"),
    onPage(), partsOf(health), partitions(health), records(health));
}

function ms(value) {
  return value === null || value === undefined ? "–" : `${number(value)} ms`;
}

function tile(title, figure, drawing, note) {
  return h("section", { class: "panel tile" }, h("h2", {}, title), h("p", { class: "figure num" }, figure), drawing, h("p", { class: "quiet" }, note));
}

function over(names, unit, digits = 0) {
  const samples = state.samples;
  if (samples.length < 2) return h("p", { class: "empty" }, "not yet");
  const lines = names.map(([key, name]) => ({ name, class: key, points: samples.map((sample) => [sample.t, sample[key]]) }));
  const high = Math.max(1, ...lines.flatMap((line) => line.points.map(([, v]) => v ?? 0)));
  return chart({
    start: samples[0].t, end: samples.at(-1).t, low: 0, high: high * 1.1, lines, width: 420, height: 130, unit, digits, gap: 5000,
    label: `${names.map(([, name]) => name).join(" and ")} over ${span(samples.at(-1).t - samples[0].t)}`,
  });
}

function onPage() {
  const p = (share) => quantile(state.delays, share);
  return list("On this page", [
    ["Findings shown", number(state.arrived)],
    ["after their append, p50", ms(p(0.5))],
    ["p99", ms(p(0.99))],
    ["largest", ms(p(1))],
  ], "from the broker's append to the page being drawn, by this machine's clock");
}

function partsOf(health) {
  const word = (part) => (part.ok ? "answers" : `trouble: ${part.said ?? "unknown"}`);
  const ago = health.windowAt ? `${span(health.now - health.windowAt)} ago` : "–";
  return list("Parts", [
    ["Kafka", word(health.kafka)],
    ["topics of findings", word(health.feed)],
    ["tables", word(health.lake)],
    ["alerts are behind by", health.alertsLag === null ? "not known" : `about ${number(health.alertsLag)} records`],
    ["latest window end (data time)", time(health.windowEnd, state.clock)],
    ["closed", ago],
    ["the data's clock is behind by", health.clock ? span(health.now - health.clock) : "–"],
  ]);
}

function partitions(health) {
  const rows = health.partitions.map((one) => [one.partition, number(one.end), number(one.archived), number(one.archived === null ? null : one.end - one.archived), number(one.judged)]);
  return h("section", { class: "panel tile" }, h("h2", {}, "Partitions of the readings"), h("div", { class: "scroll" }, h("table", {},
    h("thead", {}, h("tr", {}, ["Partition", "End", "Archived", "Waiting", "Judged"].map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, rows.map((cells) => h("tr", {}, cells.map((cell) => h("td", { class: "num" }, cell))))))));
}

function records(health) {
  const { counts, reasons } = health;
  const share = counts.records_in ? `${number((100 * (counts.rejected ?? 0)) / counts.records_in, 2)} %` : "–";
  return list("Records archived", [
    ["accepted", number(counts.accepted)], ["rejected", `${number(counts.rejected)} (${share})`],
    ["late", number(counts.late)], ["sent again", number(counts.resent)],
    ...Object.entries(reasons).sort((a, b) => b[1] - a[1]).slice(0, 6).map(([name, n]) => [`rejected: ${name}`, number(n)]),
  ], "since the tables began");
}

function list(title, rows, note = null) {
  return h("section", { class: "panel tile" }, h("h2", {}, title),
    h("dl", { class: "facts wide" }, rows.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", { class: "num" }, value)))),
    note && h("p", { class: "quiet" }, note));
}
