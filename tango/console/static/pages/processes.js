// Processes of this machine's stack, as `tango status` has them.
import { count, instant } from "../format.js";
import { badge, heading, section, table } from "../parts.js";
import { h } from "../dom.js";

export const of = ["processes", "actions"];

export function render({ processes, actions }) {
  const down = processes.filter((p) => p.state !== "running").length;
  return [
    heading("Processes", h("span", null, processes.length ? (down ? badge(`${down} of ${processes.length} not running`, "bad") : badge(`all ${processes.length} run`, "good")) : "no stack of this machine")),
    section("This machine", table("Processes of this stack", [
      { name: "Name", of: (p) => p.name },
      { name: "State", of: (p) => badge(p.state, p.state === "running" ? (p.ended_s !== null && p.ended_s < 60 ? "warn" : "good") : "bad") },
      { name: "Role", of: (p) => p.role },
      { name: "Process", of: (p) => p.pid ?? "–", number: true },
      { name: "Restarts", of: (p) => count(p.restarts), number: true },
      { name: "Last restart", of: (p) => (p.ended_s === null ? "–" : p.ended_s < 3600 ? `${count(p.ended_s)} s ago` : "earlier"), number: true },
    ], processes, { key: (p) => p.name, empty: "Processes of other machines are watched there; clusters that are away are marked on the fleet's page." })),
    section("Changed in the console", table("What was changed in the console", [
      { name: "At (UTC)", of: (a) => instant(a.at_s) },
      { name: "By", of: (a) => a.actor },
      { name: "What", of: (a) => a.action },
      { name: "Of", of: (a) => (a.subject.length > 20 ? a.subject.slice(0, 12) : a.subject) },
      { name: "Outcome", of: (a) => a.outcome, class: "wrap" },
    ], actions, { key: (a, k) => `${a.at_s}/${k}`, empty: "Nothing yet." })),
  ];
}
