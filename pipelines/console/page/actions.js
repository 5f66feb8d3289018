// Signing in, and what an operator says of an incident.

import { h } from "./format.js";
import { ask, changed, state } from "./store.js";

const KEPT = { token: "gridwatch.token", operator: "gridwatch.operator" };
const element = (id) => document.getElementById(id);

/** The token of this tab; empty without one. It is never put into an address. */
export function token() {
  return sessionStorage.getItem(KEPT.token) ?? "";
}

/** Whether actions can be sent from this tab. */
export function mayAct() {
  return state.canWrite && token() !== "";
}

/** A line at the foot of the page, read out by a screen reader. */
export function say(text, isProblem = false) {
  const line = h("p", { class: isProblem ? "problem" : "" }, text);
  element("said").replaceChildren(line);
  setTimeout(() => line.remove(), isProblem ? 9000 : 4000);
}

/** Take a token out of the address, where `gridwatch demo` puts it behind the #: that part is sent to nobody. */
export async function takeTokenOfAddress() {
  const found = /^#token=([\w.~-]+)$/.exec(location.hash);
  if (!found) return;
  history.replaceState(null, "", location.pathname + "#/incidents");
  await signIn(found[1]).catch((problem) => say(problem.message, true));
}

async function signIn(given) {
  await ask("api/token", { headers: { Authorization: `Bearer ${given}` } });
  sessionStorage.setItem(KEPT.token, given);
  changed();
}

/** Make the dialog work. */
export function prepareSignIn() {
  const dialog = element("sign-dialog");
  const submit = async () => {
    element("sign-problem").textContent = "";
    localStorage.setItem(KEPT.operator, element("operator").value.trim());
    try {
      await signIn(element("token").value.trim());
      dialog.close();
      say("signed in");
    } catch (problem) {
      element("sign-problem").textContent = problem.message;
    }
  };
  element("sign-in").addEventListener("click", submit);
  element("token").addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    submit();
  });
  element("sign").addEventListener("click", () => {
    if (!mayAct()) return openSignIn();
    sessionStorage.removeItem(KEPT.token);
    changed();
    say("signed out");
  });
}

/** Show the dialog. */
export function openSignIn() {
  element("operator").value = localStorage.getItem(KEPT.operator) ?? "";
  element("token").value = "";
  element("sign-dialog").showModal();
}

/** Write an action; what it says comes back to every page through Kafka. */
export async function act(incident, action, more = {}) {
  if (!mayAct()) {
    if (state.canWrite) openSignIn();
    else say("read-only: the console was started without a token", true);
    return false;
  }
  const operator = localStorage.getItem(KEPT.operator) || undefined;
  const document_ = { actionId: crypto.randomUUID(), incidentId: incident.incidentId, action, operator, ...more };
  try {
    await ask("api/actions", {
      method: "POST",
      headers: { "Content-Type": "application/json", Authorization: `Bearer ${token()}` },
      body: JSON.stringify(document_),
    });
    say(`${action === "feedback" ? `feedback "${more.verdict}"` : action} sent`);
    return true;
  } catch (problem) {
    if (problem.status === 401) sessionStorage.removeItem(KEPT.token);
    say(problem.message, true);
    changed();
    return false;
  }
}
