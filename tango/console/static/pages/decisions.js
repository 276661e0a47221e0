// Who decides, how fast, and by which network; what was resized and evicted; which checkpoint is live.
import { h } from "../dom.js";
import { clock, count, instant, ms } from "../format.js";
import { badge, heading, section, serviceClass, table } from "../parts.js";
import { action } from "../asking.js";

export const of = ["fleet", "lately", "checkpoints"];

const SHOWN = 15;
const short = (digest) => digest.slice(0, 12);
const cpu = (millicores) => (millicores === null ? "–" : (millicores / 1000).toFixed(1));

export function render({ fleet, lately, checkpoints }) {
  return [
    heading("Decisions"),
    section("Who decides", table("Deciders of the last minutes", [
      { name: "Policy", of: (d) => d.policy },
      { name: "Class", of: (d) => serviceClass(d.kind) },
      { name: "Checkpoint", of: (d) => (d.checkpoint ? h("code", null, short(d.checkpoint)) : "–") },
      { name: "Cycles", of: (d) => count(d.cycles), number: true },
      { name: "Considered", of: (d) => count(d.considered), number: true },
      { name: "Placed", of: (d) => count(d.placed), number: true },
      { name: "Unplaced", of: (d) => count(d.unplaced), number: true },
      { name: "Shed", of: (d) => count(d.shed), number: true },
      { name: "Decides in p50", of: (d) => ms(d.decide_p50_ms), number: true },
      { name: "p99", of: (d) => ms(d.decide_p99_ms), number: true },
      { name: "Whole cycle p99", of: (d) => ms(d.whole_p99_ms), number: true },
    ], lately.decisions, { key: (d) => `${d.kind}/${d.policy}/${d.checkpoint}`, empty: "Nothing was decided in the last minutes." })),
    section("Latest", table("The latest decisions", [
      { name: "At (UTC)", of: (d) => clock(d.at_s) },
      { name: "Class", of: (d) => serviceClass(d.kind) },
      { name: "Cluster", of: (d) => d.cluster || "all" },
      { name: "Policy", of: (d) => d.policy },
      { name: "Considered", of: (d) => count(d.considered), number: true },
      { name: "Placed", of: (d) => count(d.placed), number: true },
      { name: "Unplaced", of: (d) => count(d.unplaced), number: true },
      { name: "Snapshot", of: (d) => ms(d.snapshot_ms), number: true },
      { name: "Decision", of: (d) => ms(d.decide_ms), number: true },
      { name: "Carried out", of: (d) => ms(d.apply_ms), number: true },
      { name: "Note", of: (d) => d.note || "–", class: "wrap" },
    ], fleet.decisions.slice(0, SHOWN), { key: (d, k) => `${d.at_s}/${d.cluster}/${k}`, empty: "Nothing was decided yet." })),
    section("Resizes and evictions", table("The latest resizes and evictions", [
      { name: "At (UTC)", of: (e) => clock(e.at_s) },
      { name: "What", of: (e) => e.kind },
      { name: "Pod", of: (e) => e.pod, class: "cut" },
      { name: "Node", of: (e) => `${e.cluster}/${e.node}` },
      { name: "Cores", of: (e) => (e.kind !== "resize" ? "–" : e.before_millicores === e.after_millicores ? "request alone" : `${cpu(e.before_millicores)} → ${cpu(e.after_millicores)}`), number: true },
      { name: "Why", of: (e) => e.reason, class: "wrap" },
      { name: "Outcome", of: (e) => badge(e.outcome, e.outcome === "done" ? "good" : e.outcome === "error" ? "bad" : "warn") },
      { name: "Took", of: (e) => ms(e.actuation_ms), number: true },
    ], fleet.scaling.slice(0, SHOWN), { key: (e, k) => `${e.at_s}/${e.pod}/${k}`, empty: "Nothing was resized or evicted yet." })),
    section("Checkpoints", table("Registered checkpoints", [
      { name: "Name", of: (c) => c.name },
      { name: "Policy", of: (c) => c.policy },
      { name: "Digest", of: (c) => h("code", null, short(c.digest)) },
      { name: "Role", of: (c) => (c.role ? badge(c.role, c.decides ? "good" : "quiet") : "–") },
      { name: "Registered (UTC)", of: (c) => instant(c.registered_at_s) },
      { name: "Refused", of: (c) => c.refused || "–", class: "wrap" },
      { label: "Promote", of: (c) => (c.role.includes("live") ? "" : action("Promote", `Let ${c.name} (${short(c.digest)}) place BE from the scheduler's next tick on? It is loaded as a test first. “tango checkpoint demote” takes it back.`, `/api/checkpoints/${c.digest}/promote`, { kind: "" })) },
    ], checkpoints.checkpoints, { key: (c) => c.digest, empty: "None is registered: tango checkpoint add FILE." })),
    checkpoints.history.length ? section("Changes of roles", table("Changes of roles", [
      { name: "At (UTC)", of: (e) => instant(e.at_s) },
      { name: "What", of: (e) => e.action },
      { name: "Checkpoint", of: (e) => h("code", null, short(e.digest)) },
      { name: "By", of: (e) => e.actor || "–" },
      { name: "Note", of: (e) => e.note || "–", class: "wrap" },
    ], checkpoints.history, { key: (e, k) => `${e.at_s}/${k}` })) : null,
  ];
}
