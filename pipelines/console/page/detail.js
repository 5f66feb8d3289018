// One incident: what happened when, what it means, its voltage, the findings behind it, and what to say of it.

import { badge, h, number, s, shape, span, time, words } from "./format.js";
import { ask, changed, childrenOf, muteOf, scopeId, state } from "./store.js";
import { act, mayAct, openSignIn } from "./actions.js";
import { voltage } from "./meter.js";

const MUTES = [[30, "30 min"], [120, "2 h"], [480, "8 h"], [1440, "24 h"], [10080, "7 d"], [0, "end the mute"]];
const MOST_CHILDREN = 30;
const MOST_FINDINGS = 12;
const AROUND_MS = 10 * 60000;
const AGAIN_MS = 5000;

const stored = { id: null, findings: [], series: null, problem: null, at: 0, upTo: 0 };

/** Draw the incident into the panel; null clears it. Each part is drawn anew only when what it shows has changed, so that
 *  a list that somebody has opened does not close under their hand. */
export function detail(panel, incident, choose) {
  if (!incident) {
    if (panel.incident !== "none") panel.replaceChildren(h("p", { class: "empty" }, "Choose an incident."));
    panel.incident = "none";
    return;
  }
  fetchBehind(incident);
  if (panel.incident !== incident.incidentId) {
    panel.incident = incident.incidentId;
    panel.replaceChildren(h("div"), h("div"), h("div"));
  }
  const said = state.actions.get(incident.incidentId);
  const muted = muteOf(incident)?.muteUntil;
  const [top, middle, rest] = panel.children;
  redraw(top, [incident], () => head(incident));
  redraw(middle, [said, muted, state.canWrite, mayAct()], () => [actions(incident)]);
  redraw(rest, [incident, said, muted, stored.at, childrenOf(incident.incidentId).length, Math.round((state.clock ?? 0) / 10000)],
    () => sections(incident, choose));
}

function redraw(part, shows, build) {
  const drawn = JSON.stringify(shows);
  if (part.drawn === drawn) return;
  part.drawn = drawn;
  const focused = part.contains(document.activeElement) ? document.activeElement.id : "";
  const note = part.querySelector("#note")?.value;
  part.replaceChildren(...build());
  if (note) part.querySelector("#note").value = note;
  if (focused) document.getElementById(focused)?.focus();
}

function head(incident) {
  return [
    h("header", {}, badge(incident.severity), h("h2", {}, scopeId(incident), " · ", words(incident.anomalyType)),
      h("p", { class: "status" }, statusLine(incident))),
    h("p", { class: "message" }, incident.message),
  ];
}

function sections(incident, choose) {
  return [
    h("h3", {}, "Life cycle"), lifeCycle(incident),
    h("h3", {}, "What it means"), ...explanation(incident),
    ...picture(incident),
    ...explained(incident, choose),
    h("h3", {}, "Findings behind it"), findings(),
  ];
}

function counted(n, what) {
  return n ? `${number(n)} ${what}${n === 1 ? "" : "s"}` : `no ${what}`;
}

function statusLine(incident) {
  const place = [incident.scope === "meter" && incident.feederId && `feeder ${incident.feederId}`, `family ${words(incident.family)}`,
    counted(incident.anomalies, "finding"), counted(incident.alerts, "notification")];
  return [incident.status, ...place.filter(Boolean)].join(" · ");
}

function lifeCycle(incident) {
  const near = incident.openedAt;
  const steps = incident.severityHistory.map((step, at) => [step.severity, step.at,
    at ? `rose to ${step.severity}: ${words(step.anomalyType)}` : `opened as ${step.severity}: ${words(step.anomalyType)}`]);
  if (incident.lastAnomalyAt > incident.openedAt) steps.push(["INFO", incident.lastAnomalyAt, "latest finding"]);
  if (incident.closedAt !== null) steps.push(["INFO", incident.closedAt, `closed after ${span(incident.closedAt - incident.openedAt)}`]);
  const said = Object.values(state.actions.get(incident.incidentId) ?? {}).sort((a, b) => a.at - b.at);
  const items = steps.map(([severity, at, text]) => step(severity, time(at, near), text));
  if (incident.closedAt === null) items.push(step("INFO", "now", `open for ${span((state.clock ?? incident.lastAnomalyAt) - incident.openedAt)}`));
  items.push(...said.map((action) => step("SAID", time(action.at, Date.now()), spoken(action))));
  if (incident.muted) items.push(step("SAID", "", `not notified: ${incident.muted}`));
  return h("ol", { class: "life" }, items);
}

function step(severity, when, text) {
  const mark = severity === "SAID" ? s("rect", { x: 2, y: 3, width: 12, height: 10, rx: 3, class: "shape SAID" }) : shape(severity);
  return h("li", {}, s("svg", { viewBox: "0 0 16 16", width: 12, height: 12, "aria-hidden": "true" }, mark),
    h("time", { class: "num" }, when), h("span", {}, text));
}

function spoken(action) {
  const what = {
    acknowledge: "acknowledged",
    mute: action.muteUntil > action.muteFrom ? `muted until ${time(action.muteUntil, action.muteFrom)} (data time)` : "mute ended",
    feedback: `feedback: ${action.verdict}`,
  }[action.action];
  return [what, action.operator && `by ${action.operator}`, action.note && `– ${action.note}`].filter(Boolean).join(" ");
}

function explanation(incident) {
  const rule = state.rules[incident.anomalyType];
  const worst = stored.id === incident.incidentId ? stored.findings.find((one) => one.anomalyType === incident.anomalyType) : null;
  const facts = worst && [
    ["observed", number(worst.observed, 1)], ["limit", number(worst.thresholdUsed, 1)],
    ["past it by", number(worst.deviation, 1)], ["times the allowed", number(worst.score, 2)],
  ];
  const known = facts && facts.filter(([, value]) => value !== "–");
  return [
    rule && h("p", {}, rule.means),
    rule && h("p", {}, h("b", {}, "Look first: "), rule.look),
    known?.length > 1 && h("dl", { class: "facts" }, known.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", { class: "num" }, value)))),
  ].filter(Boolean);
}

function picture(incident) {
  if (incident.scope !== "meter") return [];
  const link = h("a", { href: `#/meter/${encodeURIComponent(incident.meterId)}` }, "all of it");
  const here = stored.id === incident.incidentId;
  const content = here && stored.series ? voltage(stored.series, { width: 520, height: 170, cursor: false })
    : h("p", { class: "empty" }, (here && stored.problem) || "reading the tables");
  return [h("h3", {}, "Voltage ", link), content];
}

function explained(incident, choose) {
  const children = childrenOf(incident.incidentId);
  const parent = incident.parentId && state.incidents.get(incident.parentId);
  const button = (one) => h("button", { type: "button", class: "plain", onclick: () => choose(one.incidentId) },
    badge(one.severity), " ", scopeId(one), " ", words(one.anomalyType), " ", one.status);
  return [
    parent && h("h3", {}, "Explained by"), parent && h("p", {}, button(parent)),
    children.length ? h("h3", {}, `Explains ${children.length} incidents of its meters`) : null,
    children.length ? h("ul", { class: "children" }, children.slice(0, MOST_CHILDREN).map((one) => h("li", {}, button(one)))) : null,
  ].filter(Boolean);
}

function findings() {
  if (stored.problem) return h("p", { class: "empty" }, stored.problem);
  if (!stored.findings.length) return h("p", { class: "empty" }, "None in the tables yet.");
  return h("ol", { class: "latest" }, stored.findings.slice(0, MOST_FINDINGS).map((finding) =>
    h("li", {}, badge(finding.severity), h("span", { class: "num" }, time(finding.eventTime, state.clock)),
      h("span", { class: "what", title: finding.message }, words(finding.anomalyType), " – ", finding.message))));
}

function actions(incident) {
  if (!state.canWrite) {
    return h("p", { class: "hint" }, h("input", { id: "note", hidden: true }),
      "Read-only: the console was started without a token (GRIDWATCH_CONSOLE__TOKEN).");
  }
  const said = state.actions.get(incident.incidentId) ?? {};
  const note = h("input", { id: "note", maxlength: "500", placeholder: "note (optional)", "aria-label": "Note" });
  const send = async (action, more = {}) => {
    if (await act(incident, action, { ...more, note: note.value.trim() || undefined })) note.value = "";
  };
  const mute = h("select", { id: "mute", "aria-label": `Mute ${scopeId(incident)}`, onchange: async (event) => {
    const minutes = event.target.value;
    event.target.value = "";
    if (minutes !== "") await send("mute", { minutes: Number(minutes) });
  } }, h("option", { value: "" }, muteOf(incident) ? "Muted …" : "Mute …"),
  MUTES.map(([minutes, text]) => h("option", { value: minutes }, text)));
  const verdict = (name, title) => h("button", {
    type: "button", id: `say-${name}`, title, "aria-pressed": String(said.feedback?.verdict === name),
    onclick: () => send("feedback", { verdict: name }),
  }, name);
  return h("div", { class: "actions", role: "group", "aria-label": "Say something of this incident" },
    h("button", { type: "button", id: "acknowledge", class: "primary", "aria-pressed": String(Boolean(said.acknowledge)),
      onclick: () => send("acknowledge") }, said.acknowledge ? "Acknowledged" : "Acknowledge"),
    mute,
    h("span", { class: "verdicts", role: "group", "aria-label": "It turned out to be" },
      verdict("confirmed", "A real fault"), verdict("false", "Nothing was wrong"), verdict("expected", "Planned work and the like")),
    note,
    mayAct() ? null : h("button", { type: "button", class: "plain", onclick: openSignIn }, "Sign in to act"));
}

async function fetchBehind(incident) {
  const isNew = stored.id !== incident.incidentId;
  const isBehind = incident.status === "open" && !stored.findings.length; // the tables come after the topic
  const grew = (incident.lastAnomalyAt > stored.upTo || isBehind) && performance.now() - stored.asked > AGAIN_MS;
  if (!isNew && !grew) return;
  Object.assign(stored, { id: incident.incidentId, upTo: incident.lastAnomalyAt, asked: performance.now() });
  if (isNew) Object.assign(stored, { findings: [], series: null, problem: null, at: stored.at + 1 });
  const id = incident.incidentId;
  try {
    const until = (incident.closedAt ?? incident.lastAnomalyAt) + AROUND_MS;
    const minutes = Math.min(1440, Math.max(30, (until - incident.openedAt + AROUND_MS) / 60000));
    const [found, series] = await Promise.all([
      ask(`api/findings?incident=${id}`),
      incident.scope === "meter" ? ask(`api/meter?id=${encodeURIComponent(incident.meterId)}&until=${until}&minutes=${minutes}`) : null,
    ]);
    if (stored.id === id) Object.assign(stored, { findings: found, series, problem: null, at: stored.at + 1 });
  } catch (problem) {
    if (stored.id === id) Object.assign(stored, { problem: problem.message, at: stored.at + 1 });
  }
  changed();
}
