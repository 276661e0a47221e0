// The latest jobs.
import { count, duration, instant } from "../format.js";
import { badge, heading, section, table } from "../parts.js";

export const of = ["jobs"];

export const STATES = { succeeded: "good", running: "good", failed: "bad", cancelled: "warn", shed: "bad" };
export const stateOf = (state) => badge(state, STATES[state] || "quiet");
export const took = (job) => (job.started_at_s === null ? null : (job.ended_at_s ?? Date.now() / 1000) - job.started_at_s);

export function render({ jobs }) {
  return [
    heading("Jobs"),
    section("Latest", table("The latest jobs", [
      { name: "Job", of: (j) => j.job },
      { name: "Service", of: (j) => j.service },
      { name: "State", of: (j) => stateOf(j.state) },
      { name: "Exit", of: (j) => (j.exit_code === null ? "–" : String(j.exit_code)), number: true },
      { name: "Attempts", of: (j) => count(j.attempts), number: true },
      { name: "Node", of: (j) => (j.node ? `${j.cluster}/${j.node}` : "–") },
      { name: "Submitted (UTC)", of: (j) => instant(j.submitted_at_s) },
      { name: "Ran", of: (j) => duration(took(j)), number: true },
      { name: "Tenant", of: (j) => j.tenant },
      { name: "Why", of: (j) => j.reason || j.waiting || "–", class: "wrap" },
    ], jobs, { key: (j) => j.job, href: (j) => `/jobs/${j.job}`, empty: "No job yet: tango job submit --service NAME." })),
  ];
}
