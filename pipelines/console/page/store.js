// What the page knows: filled by the server's events, read by the views.

import { RANK } from "./format.js";

const MOST_FINDINGS = 300;
const MOST_SAMPLES = 600;
const MOST_DELAYS = 5000;

export const state = {
  link: "connecting",
  incidents: new Map(),
  actions: new Map(),
  mutes: new Map(),
  findings: [],
  health: null,
  samples: [],
  rules: {},
  families: {},
  canWrite: false,
  un: 230,
  clock: null,
  delays: [],
  arrived: 0,
};

let draw = () => {};
let asked = false;
let unseen = [];

/** Call `render` soon after anything changes, once for all changes of a moment. */
export function onChange(render) {
  draw = render;
}

/** Ask for a drawing. What is not on screen is drawn too: a hidden tab shall not fall behind. */
export function changed() {
  if (asked) return;
  asked = true;
  const run = () => {
    if (!asked) return;
    asked = false;
    draw();
    const now = Date.now();
    for (const finding of unseen) state.delays.push(now - finding.at);
    unseen = [];
    if (state.delays.length > MOST_DELAYS) state.delays.splice(0, state.delays.length - MOST_DELAYS);
  };
  if (document.hidden) setTimeout(run, 50);
  else requestAnimationFrame(run);
}

/** Listen to the server for as long as the page is open; the browser connects again by itself. */
export function connect() {
  const source = new EventSource("api/events");
  const on = (name, take) =>
    source.addEventListener(name, (event) => {
      take(JSON.parse(event.data));
      changed();
    });
  source.addEventListener("open", () => link("live"));
  source.addEventListener("error", () => link("lost"));
  on("snapshot", takeSnapshot);
  on("incidents", ({ changed: rows, gone }) => {
    for (const id of gone) state.incidents.delete(id);
    for (const row of rows) state.incidents.set(row.incidentId, row);
  });
  on("anomalies", (found) => {
    state.findings.push(...found);
    state.findings.splice(0, Math.max(0, state.findings.length - MOST_FINDINGS));
    state.arrived += found.length;
    unseen.push(...found);
    state.clock = Math.max(state.clock ?? 0, ...found.map((finding) => finding.eventTime ?? 0));
  });
  on("actions", (said) => said.forEach(takeAction));
  on("health", ({ health, sample }) => {
    state.health = health;
    state.clock = health.clock ?? state.clock;
    state.samples.push(sample);
    state.samples.splice(0, Math.max(0, state.samples.length - MOST_SAMPLES));
  });
  addEventListener("pagehide", () => source.close());
}

function link(now) {
  state.link = now;
  changed();
}

function takeSnapshot(found) {
  state.incidents = new Map(found.incidents.map((row) => [row.incidentId, row]));
  state.actions = new Map();
  state.mutes = new Map();
  found.actions.forEach(takeAction);
  found.mutes.forEach(takeMute);
  state.findings = found.anomalies;
  state.samples = found.samples;
  state.health = found.health.now ? found.health : null;
  for (const name of ["rules", "families", "canWrite", "un", "clock"]) state[name] = found[name];
}

function takeAction(action) {
  const said = state.actions.get(action.incidentId) ?? {};
  state.actions.set(action.incidentId, { ...said, [action.action]: action });
  if (action.action === "mute") takeMute(action);
}

function takeMute(action) {
  const name = `${action.scope}|${action.scopeId}`;
  if ((state.mutes.get(name)?.at ?? 0) <= action.at) state.mutes.set(name, action);
}

/** The meter or feeder that an incident is about. */
export function scopeId(incident) {
  return incident.scope === "meter" ? incident.meterId : incident.feederId;
}

/** The mute that holds for an incident at the data's clock; null without one. */
export function muteOf(incident) {
  const names = [`feeder|${incident.feederId}`, `${incident.scope}|${scopeId(incident)}`];
  return names.map((name) => state.mutes.get(name)).find((mute) => mute && mute.muteUntil > (state.clock ?? 0)) ?? null;
}

/** Incidents that an incident explains. */
export function childrenOf(id) {
  return [...state.incidents.values()].filter((incident) => incident.parentId === id);
}

/** The worst first, then what nobody looks after, then the newest. */
export function byUrgency(a, b) {
  const open = (incident) => (incident.status === "open" ? 1 : 0);
  const alone = (incident) => (state.actions.get(incident.incidentId)?.acknowledge ? 0 : 1);
  return (
    open(b) - open(a) ||
    (open(a) ? RANK[b.severity] - RANK[a.severity] || alone(b) - alone(a) : 0) ||
    b.openedAt - a.openedAt ||
    a.incidentId.localeCompare(b.incidentId)
  );
}

/** Ask the server; throws an Error whose message is a line for a person. */
export async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Error("the console does not answer");
  }
  const found = await answer.json().catch(() => null);
  if (!answer.ok) throw Object.assign(new Error(found?.error ?? `answer ${answer.status}`), { status: answer.status });
  return found;
}
