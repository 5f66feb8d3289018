// The page: which view is shown, the figures above it, keys and theme.

import { badge, h, number, quantile, SEVERITIES, span, time } from "./format.js";
import { changed, connect, onChange, state } from "./store.js";
import { mayAct, prepareSignIn, takeTokenOfAddress } from "./actions.js";
import * as incidents from "./incidents.js";
import * as feeders from "./feeders.js";
import * as meter from "./meter.js";
import * as pipeline from "./pipeline.js";

const VIEWS = { incidents, feeders, meter, pipeline };
const element = (id) => document.getElementById(id);
let current = null;

// A hash that somebody has typed or cut off may be no encoding at all, such as #/meter/%.
function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function route() {
  const [, name, argument] = /^#\/(\w+)(?:\/(.*))?$/.exec(location.hash) ?? [];
  const view = VIEWS[name] ? name : "incidents";
  current = VIEWS[view];
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.view === view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${view} · gridwatch`;
  element("main").replaceChildren(current.build(argument === undefined ? undefined : decoded(argument)));
  changed();
}

function draw() {
  drawFigures();
  drawLink();
  current?.render();
}

function drawFigures() {
  const open = [...state.incidents.values()].filter((incident) => incident.status === "open");
  const unseen = open.filter((incident) => !state.actions.get(incident.incidentId)?.acknowledge && incident.parentId === null);
  const health = state.health;
  const page = quantile(state.delays, 0.99);
  const figures = [
    ...SEVERITIES.map((severity) => [badge(severity), number(open.filter((one) => one.severity === severity).length)]),
    ["not acknowledged", number(unseen.length)],
    ["readings / s", number(health?.rate)],
    ["alert p99", health?.latency.p99 == null ? "–" : `${number(health.latency.p99)} ms`],
    ["page p99", page === null ? "–" : `${number(page)} ms`],
    ["waiting", number(health?.archiveLag)],
    ["data clock (UTC)", time(state.clock, state.clock)],
  ];
  const key = figures.map(([name, value]) => `${name.textContent ?? name}${value}`).join("|");
  if (element("figures").drawn === key) return;
  element("figures").drawn = key;
  element("figures").replaceChildren(...figures.map(([name, value]) => h("div", {}, h("span", { class: "name" }, name), h("span", { class: "num" }, value))));
}

function drawLink() {
  const text = { live: "live", lost: "connection lost, trying again", connecting: "connecting" }[state.link];
  const link = element("link");
  if (link.textContent !== text) link.textContent = text;
  link.dataset.state = state.link;
  const health = state.health;
  const broken = health ? [["Kafka", health.kafka], ["the topics", health.feed], ["the tables", health.lake]].filter(([, part]) => !part.ok) : [];
  const trouble = element("trouble");
  trouble.hidden = !broken.length;
  const said = broken.map(([name, part]) => `${name}: ${part.said}`).join("; ");
  if (trouble.textContent !== said) trouble.textContent = said;
  element("sign").textContent = mayAct() ? "Sign out" : "Sign in";
  element("sign").hidden = !state.canWrite;
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const target = event.target;
  if (target.matches("input, select, textarea")) {
    if (event.key === "Escape") target.blur();
    return;
  }
  const view = Object.keys(VIEWS)[Number(event.key) - 1];
  if (view) location.hash = `#/${view}`;
  else if (event.key === "/") element("search")?.focus();
  else if (event.key === "?") element("keys-dialog").showModal();
  else if (!current?.key?.(event.key)) return;
  event.preventDefault();
}

function prepareTheme() {
  const name = "gridwatch.theme";
  const apply = (theme) => {
    if (theme) document.documentElement.dataset.theme = theme;
    else delete document.documentElement.dataset.theme;
  };
  apply(localStorage.getItem(name));
  element("theme").addEventListener("click", () => {
    const dark = document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
    const next = dark === "dark" ? "light" : "dark";
    localStorage.setItem(name, next);
    apply(next);
  });
}

prepareTheme();
prepareSignIn();
element("keys").addEventListener("click", () => element("keys-dialog").showModal());
document.addEventListener("keydown", onKey);
addEventListener("hashchange", route);
onChange(draw);
await takeTokenOfAddress();
route();
connect();
setInterval(changed, 1000);
// For tests and for a person with the developer tools: how long findings took to get here, in ms.
window.gridwatch = { delays: state.delays, state, span };
