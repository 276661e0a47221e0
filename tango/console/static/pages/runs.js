// Runs: how far those are that go on, and how the latest fared.
import { h } from "../dom.js";
import { count, duration, instant, percent } from "../format.js";
import { badge, heading, meter, section, table } from "../parts.js";

const chosen = new Set();

export const of = ["fleet", "runs"];

export const done = (run) => (run.span_s && run.accepted ? (run.succeeded + run.lost) / run.accepted : null);
const STATUS = { completed: "good", running: "good", draining: "good", accepted: "quiet", failed: "bad", cancelled: "warn", cancelling: "warn" };
export const statusOf = (status) => badge(status, STATUS[status] || "quiet");

export function render({ fleet, runs }, state) {
  const choose = (run) => h("input", { type: "checkbox", checked: chosen.has(run), "aria-label": `Compare run ${run}`, onchange: (event) => {
    if (event.target.checked) chosen.add(run); else chosen.delete(run);
    state.changed();
  } });
  const [first, ...others] = [...chosen];
  return [
    heading("Runs"),
    section("Under way", table("Runs under way", [
      { name: "Run", of: (r) => `${r.run_id}` },
      { name: "Name", of: (r) => r.name, class: "cut" },
      { name: "System", of: (r) => r.system },
      { name: "Status", of: (r) => statusOf(r.status) },
      { name: "Progress", of: (r) => (done(r) === null ? `${count(r.succeeded + r.lost)} ended` : h("span", { class: "metered" }, meter(done(r), `${percent(done(r))} ended`), percent(done(r)))), class: "wide" },
      { name: "Elapsed", of: (r) => duration(r.elapsed_s), number: true },
      { name: "Waiting", of: (r) => count(r.waiting), number: true },
      { name: "Running", of: (r) => count(r.in_flight), number: true },
      { name: "QoS so far", of: (r) => percent(r.lc_ended ? r.lc_in_time / r.lc_ended : null), number: true },
      { name: "Lost", of: (r) => count(r.lost), number: true },
    ], fleet.runs, { key: (r) => r.run_id, href: (r) => `/runs/${r.run_id}`, empty: "No run is under way." })),
    section("Latest",
      h("p", { class: "note" }, others.length ? h("a", { href: `/compare/${[first, ...others].join(",")}` }, `Compare runs ${[...chosen].join(", ")}`) : "Choose two or more to see them side by side; the first one is what the others are held against."),
      table("Latest runs", [
      { name: "Run", of: (r) => `${r.run}` },
      { name: "Kind", of: (r) => r.kind },
      { name: "Name", of: (r) => r.name, class: "cut" },
      { name: "System", of: (r) => r.system },
      { name: "Status", of: (r) => statusOf(r.status) },
      { name: "Started (UTC)", of: (r) => instant(r.started_at_s) },
      { name: "Duration", of: (r) => duration(r.duration_s), number: true },
      { name: "Requests", of: (r) => count(r.accepted), number: true },
      { name: "QoS rate", of: (r) => percent(r.lc_qos_rate), number: true },
      { name: "BE CPU-s/s", of: (r) => (r.be_cpu_seconds_per_s === null ? "–" : r.be_cpu_seconds_per_s.toFixed(2)), number: true },
      { name: "Compare", of: (r) => choose(r.run), class: "num" },
    ], runs, { key: (r) => r.run, href: (r) => `/runs/${r.run}`, empty: "No run yet: tango run submit FILE." })),
  ];
}
