// The view of the incidents: a list by urgency, the latest findings below it, the chosen one beside it.

import { badge, h, keep, number, RANK, span, time, words } from "./format.js";
import { byUrgency, childrenOf, muteOf, scopeId, state } from "./store.js";
import { detail } from "./detail.js";
import { act } from "./actions.js";

const MOST = 250;
const MOST_LATEST = 8;
const WIDE = 1100; // beyond it the chosen incident stands beside the list, as in style.css

const filter = { status: "open", severity: "WARNING", text: "", explained: false };
let chosen = null;
let parts = null;
let shown = [];

/** Build the view once. */
export function build(argument) {
  if (argument) chosen = argument;
  const pick = (name, options) =>
    h("select", { onchange: (event) => set(name, event.target.value) },
      options.map(([value, text]) => h("option", { value, selected: filter[name] === value }, text)));
  const search = h("input", {
    type: "search", id: "search", placeholder: "meter, feeder, rule  ( / )", value: filter.text,
    "aria-label": "Search incidents", oninput: (event) => set("text", event.target.value.trim().toLowerCase()),
  });
  const box = h("input", { type: "checkbox", onchange: (event) => set("explained", event.target.checked) });
  box.checked = filter.explained;
  parts = {
    count: h("p", { class: "count", role: "status" }),
    list: h("div", {
      class: "list", id: "list", role: "listbox", tabindex: "0", "aria-label": "Incidents", onkeydown: onKey,
    }),
    latest: h("ol", { class: "latest" }),
    detail: h("aside", { class: "panel detail", "aria-label": "Chosen incident" }),
  };
  const view = h("div", { class: "split" },
    h("section", { class: "panel", "aria-label": "Incidents" },
      h("div", { class: "filters" },
        pick("status", [["open", "Open"], ["all", "Open and closed"], ["closed", "Closed"]]),
        pick("severity", [["WARNING", "All severities"], ["ERROR", "ERROR and worse"], ["CRITICAL", "Only CRITICAL"]]),
        search,
        h("label", { class: "check" }, box, "those a feeder explains"),
        parts.count),
      h("div", { class: "row head", "aria-hidden": "true" },
        ["Severity", "Where", "What", "Opened", "Lasts", "Findings", "State"].map((text) => h("span", {}, text))),
      parts.list,
      h("h2", {}, "Latest findings"),
      parts.latest),
    parts.detail);
  render();
  return view;
}

function set(name, value) {
  filter[name] = value;
  render();
}

/** Draw what has changed. */
export function render() {
  const least = RANK[filter.severity];
  const all = [...state.incidents.values()].filter(
    (incident) =>
      (filter.status === "all" || incident.status === filter.status) &&
      RANK[incident.severity] >= least &&
      (filter.explained || incident.parentId === null || !state.incidents.has(incident.parentId)) &&
      matches(incident),
  );
  all.sort(byUrgency);
  shown = all.slice(0, MOST);
  if (!state.incidents.has(chosen)) chosen = null;
  if (chosen === null && shown.length && innerWidth > WIDE) chosen = shown[0].incidentId;
  parts.count.textContent = all.length > MOST ? `${MOST} of ${number(all.length)}` : `${number(all.length)} incidents`;
  keep(parts.list, shown, rowKey, row);
  if (!shown.length) {
    parts.list.kept = new Map();
    parts.list.replaceChildren(h("p", { class: "empty" }, nothing()));
  }
  parts.list.setAttribute("aria-activedescendant", chosen ? `i-${chosen}` : "");
  for (const option of parts.list.children) {
    option.setAttribute("aria-selected", String(option.id === `i-${chosen}`));
  }
  keep(parts.latest, state.findings.slice(-MOST_LATEST).reverse(), (finding) => finding.anomalyId, latest);
  detail(parts.detail, chosen ? state.incidents.get(chosen) : null, choose);
}

function nothing() {
  if (state.link !== "live") return "Not connected yet.";
  return filter.text || filter.severity !== "WARNING" ? "Nothing matches the filter." : "No open incident. All is calm.";
}

function matches(incident) {
  if (!filter.text) return true;
  const text = [incident.meterId, incident.feederId, incident.family, incident.anomalyType, words(incident.anomalyType)];
  return text.join(" ").toLowerCase().includes(filter.text);
}

function lasts(incident) {
  const end = incident.status === "open" ? Math.max(state.clock ?? 0, incident.lastAnomalyAt) : incident.closedAt;
  return span(Math.round((end - incident.openedAt) / 10000) * 10000);
}

function marks(incident) {
  const said = state.actions.get(incident.incidentId) ?? {};
  const explains = incident.scope === "feeder" ? childrenOf(incident.incidentId).length : 0;
  return [
    incident.status === "closed" && "closed",
    said.acknowledge && "acknowledged",
    muteOf(incident) && "muted",
    said.feedback && said.feedback.verdict,
    explains && `explains ${explains}`,
  ].filter(Boolean);
}

/** The message without the place, which has a column of its own. */
function shortMessage(incident) {
  const start = `Meter ${incident.meterId}: `;
  return incident.message.startsWith(start) ? incident.message.slice(start.length) : incident.message;
}

function rowKey(incident) {
  return [incident.incidentId, incident.severity, incident.anomalies, lasts(incident), incident.message, ...marks(incident)].join("|");
}

function row(incident) {
  return h("div", {
    class: `row ${incident.status}`, role: "option", id: `i-${incident.incidentId}`, "aria-selected": "false",
    onclick: () => choose(incident.incidentId),
  },
  badge(incident.severity),
  h("span", { class: "where" }, scopeId(incident)),
  h("span", { class: "what", title: incident.message }, h("b", {}, words(incident.anomalyType)), " ", shortMessage(incident)),
  h("span", { class: "num" }, time(incident.openedAt, state.clock ?? incident.openedAt)),
  h("span", { class: "num" }, lasts(incident)),
  h("span", { class: "num" }, number(incident.anomalies)),
  h("span", { class: "marks" }, marks(incident).map((mark) => h("span", { class: `mark ${mark.split(" ")[0]}` }, mark))));
}

function latest(finding) {
  return h("li", {}, badge(finding.severity), h("span", { class: "num" }, time(finding.eventTime, state.clock)),
    h("span", { class: "what", title: finding.message }, finding.message));
}

function choose(id) {
  chosen = id;
  if (!shown.some((incident) => incident.incidentId === id)) filter.status = "all";
  render();
  document.getElementById(`i-${id}`)?.scrollIntoView({ block: "nearest" });
  if (innerWidth <= WIDE) parts.detail.scrollIntoView({ block: "start" });
}

/** Choose the incident so many places further down. */
export function move(step) {
  if (!shown.length) return;
  const at = shown.findIndex((incident) => incident.incidentId === chosen);
  const next = shown[Math.min(shown.length - 1, Math.max(0, at + step))].incidentId;
  chosen = next;
  render();
  document.getElementById(`i-${next}`)?.scrollIntoView({ block: "nearest" });
}

function onKey(event) {
  const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10, Home: -MOST, End: MOST }[event.key];
  if (step) {
    event.preventDefault();
    move(step);
  }
}

/** Keys of this view; true when the key was one. */
export function key(name) {
  const incident = state.incidents.get(chosen);
  if (name === "j" || name === "k") move(name === "j" ? 1 : -1);
  else if (name === "a" && incident) act(incident, "acknowledge");
  else if (name === "m" && incident) document.getElementById("mute")?.focus();
  else if (name === "v" && incident?.meterId) location.hash = `#/meter/${encodeURIComponent(incident.meterId)}`;
  else return false;
  return true;
}
