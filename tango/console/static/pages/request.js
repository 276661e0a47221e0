// One request: its way in time, where the time went, and its attempts.
import { h } from "../dom.js";
import { count, ms } from "../format.js";
import { badge, bar, heading, legend, section, serviceClass, table, tile, tiles } from "../parts.js";
import { STATES } from "./jobs.js";

export const of = [];
const PHASES = [
  ["release_s", "released", "p0", "from due to released"], ["repeat_s", "earlier attempts", "p1", "attempts before the last"],
  ["dispatch_s", "decided", "p2", "until a node was chosen"], ["send_s", "sent", "p3", "until the instance was called"],
  ["start_s", "started", "p4", "until it began to be served"], ["serve_s", "served", "p5", "being served"],
];

async function read(state) {
  state.request = await (await fetch(`/api/requests/${state.parameters.key}`)).json();
  state.changed();
  if (!state.request.error && !["succeeded", "failed", "shed", "cancelled"].includes(state.request.state)) setTimeout(() => read(state), 2000);
}

export const begin = (state) => read(state).catch(() => setTimeout(() => begin(state), 2000));

function why({ explanation, reason }) {
  if (!explanation) return h("p", null, reason || "Nothing to say.");
  const figures = Object.entries(explanation.figures);
  return [
    h("p", null, h("b", null, explanation.reason), explanation.words ? `: ${explanation.words}` : ""),
    explanation.position > 1 ? h("p", { class: "note" }, `${count(explanation.position - 1)} ahead of it`) : null,
    explanation.would_change ? h("p", null, "It would change if ", explanation.would_change) : null,
    figures.length ? h("dl", { class: "facts-list" }, figures.map(([name, value]) => h("div", { "data-key": name }, h("dt", null, name), h("dd", null, value)))) : null,
  ];
}

/** The nodes that a decision weighed for an attempt, the best first. */
function candidates(request) {
  const all = request.candidates || [];
  if (!all.length) return request.candidates_not_kept ? h("p", { class: "note" }, `Not told: ${request.candidates_not_kept}.`) : null;
  return all.map((of) => [
    h("p", { "data-key": `why ${of.epoch}` }, `Attempt ${of.epoch}, decided by ${of.policy}: ${of.why}.`),
    table(`Nodes weighed for attempt ${of.epoch}`, [
      { name: "Node", of: (n) => n.node },
      { name: "Price", of: (n) => n.price_words, number: true },
      { name: "Verdict", of: (n) => (n.node === of.chosen ? badge("chosen", "good") : n.refused ? badge("not possible", "warn") : badge("behind", "quiet")) },
      { name: "Why not", of: (n) => n.refused || "–", class: "wrap" },
      { name: "Made of", of: (n) => n.made_of || "–", class: "wrap" },
    ], of.nodes, { key: (n) => n.node }),
  ]);
}

export function render(_, { request, parameters }) {
  const title = `Request ${parameters.key}`;
  if (!request || request.error) return [heading(title), h("p", { class: "note" }, request?.error || "Reading…")];
  const latency = request.finished_s === null ? null : request.finished_s - request.due_s;
  const known = PHASES.filter(([name]) => request[name] !== null && request[name] > 0);
  const told = known.reduce((sum, [name]) => sum + request[name], 0);
  const rest = latency === null ? 0 : latency - told;
  if (rest > 0.0005) known.push(["rest_s", "not known", "other", "of which nothing was kept"]);
  request.rest_s = rest;
  const whole = told + Math.max(0, rest);
  const weighed = candidates(request);
  const late = latency !== null && request.target_s !== null && latency > request.target_s;
  return [
    h("p", { class: "kicker", "data-key": "up" }, h("a", { href: `/runs/${request.run_id}` }, `Run ${request.run_id}`)),
    heading(title, h("span", null, serviceClass(request.class)), h("span", null, badge(request.state, STATES[request.state] || "quiet")), h("span", null, "service ", h("b", null, request.service)), h("span", null, "entered ", h("b", null, request.cluster))),
    tiles(
      tile("Latency", latency === null ? "–" : ms(1000 * latency), "from due to answer, wall time", late ? "alert" : ""),
      tile("Target", request.target_s === null ? "–" : ms(1000 * request.target_s), late ? "missed" : request.target_s === null ? "none" : latency === null ? "" : "met"),
      tile("Attempts", count(request.attempt), request.late ? "was expected to be late" : ""),
      tile("Node", request.node || "–", request.target_cluster || "none yet")),
    section("Why", why(request)),
    ...(weighed ? [section("Why that node", weighed)] : []),
    section("Where the time went", known.length
      ? [legend(...known.map(([, word, kind]) => [kind, word])), bar(whole, known.map(([name, , kind]) => [kind, request[name]]), "phases of the request, in the order of time"),
         table("Phases", [
           { name: "Phase", of: ([, word]) => word },
           { name: "What", of: ([, , , what]) => what },
           { name: "Time", of: ([name]) => ms(1000 * request[name]), number: true },
           { name: "Share", of: ([name]) => `${((100 * request[name]) / whole).toFixed(0)} %`, number: true },
         ], known, { key: ([name]) => name })]
      : h("p", { class: "note" }, "Nothing is known of its phases yet.")),
    section("Attempts", table("Attempts that have ended", [
      { name: "Attempt", of: (a) => String(a.epoch) },
      { name: "Node", of: (a) => (a.node ? `${a.cluster}/${a.node}` : "–") },
      { name: "Pod", of: (a) => a.pod || "–", class: "cut" },
      { name: "Outcome", of: (a) => badge(a.outcome, STATES[a.outcome] || "warn") },
      { name: "Reason", of: (a) => a.reason || "–", class: "wrap" },
      { name: "Latency", of: (a) => (a.latency_s === null ? "–" : ms(1000 * a.latency_s)), number: true },
      { name: "Work lost", of: (a) => `${a.work_lost_s.toFixed(2)} CPU-s`, number: true },
    ], request.attempts, { key: (a) => a.epoch, empty: "None has ended yet." })),
  ];
}
