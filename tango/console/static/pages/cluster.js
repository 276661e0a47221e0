// The nodes of one cluster: those that need a look first, then the fullest.
import { h } from "../dom.js";
import { amount, cores, count, duration, gib, percent } from "../format.js";
import { PARTS, badge, cpuBar, cpuFree, heading, legend, memoryBar, section, table, tile, tiles } from "../parts.js";

export const of = ["cluster"];

export function render({ cluster: found }, { parameters }) {
  if (found === null) return [heading(parameters.cluster), h("p", { class: "note" }, "There is no such cluster. ", h("a", { href: "/" }, "All clusters"))];
  const { cluster, nodes } = found;
  const rows = nodes.name.map((name, k) => Object.fromEntries(Object.entries(nodes).map(([column, values]) => [column, values[k]])));
  for (const row of rows) row.full = row.cpu_millicores ? 1 - cpuFree(row) / row.cpu_millicores : 0;
  const rank = (row) => (row.ready ? (row.schedulable ? 2 : 1) : 0);
  rows.sort((a, b) => rank(a) - rank(b) || b.full - a.full);
  return [
    h("p", { class: "kicker", "data-key": "up" }, h("a", { href: "/" }, "Fleet")),
    heading(cluster.name, h("span", null, cluster.is_away ? badge(`away for ${duration(cluster.age_s)}`, "bad") : badge(`seen ${duration(cluster.age_s)} ago`, "good")), h("span", null, `${cluster.ready} of ${amount(cluster.nodes, "node")} ready`)),
    tiles(
      tile("LC", cores(cluster.cpu_lc_millicores), `cores held by ${amount(cluster.pods_lc, "pod")}`),
      tile("BE", cores(cluster.cpu_be_millicores), `cores held by ${amount(cluster.pods_be, "pod")}`),
      tile("Free", cores(cpuFree(cluster)), `of ${cores(cluster.cpu_millicores)} cores`),
      tile("LC now", count(cluster.lc_under_way), cluster.lc_late ? `${count(cluster.lc_late)} late` : "none late", cluster.lc_late ? "alert" : "")),
    section("Nodes", legend(...PARTS), table(`Nodes of ${cluster.name}`, [
      { name: "Node", of: (n) => n.name },
      { name: "State", of: (n) => (n.ready ? (n.schedulable ? badge("ready", "good") : badge("closed", "warn")) : badge("not ready", "bad")) },
      { name: "CPU", of: cpuBar, class: "wide" },
      { name: "LC", of: (n) => cores(n.cpu_lc_millicores), number: true },
      { name: "BE", of: (n) => cores(n.cpu_be_millicores), number: true },
      { name: "Free", of: (n) => cores(cpuFree(n)), number: true },
      { name: "Used", of: (n) => cores(n.cpu_used_millicores), number: true },
      { name: "Memory", of: memoryBar, class: "wide" },
      { name: "GiB", of: (n) => gib(n.memory_mib), number: true },
      { name: "Pods", of: (n) => `${n.pods_lc} + ${n.pods_be}`, number: true },
      { name: "LC lacks CPU", of: (n) => percent(n.lc_cpu_pressure), number: true },
    ], rows, { key: (n) => n.name })),
  ];
}
