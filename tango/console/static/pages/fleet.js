// The whole fleet: what matters most in figures, then a card for each cluster with a map of its nodes.
import { h } from "../dom.js";
import { amount, cores, count, duration, percent } from "../format.js";
import { PARTS, badge, cpuBar, cpuFree, heading, legend, memoryBar, nodeMap, section, table, tile, tiles } from "../parts.js";

export const of = ["fleet", "lately", "processes"];

const sum = (rows, name) => rows.reduce((total, row) => total + row[name], 0);

export function render({ fleet, lately, processes }) {
  const { clusters } = fleet;
  const all = Object.fromEntries(["nodes", "ready", "cpu_millicores", "cpu_lc_millicores", "cpu_be_millicores", "cpu_other_millicores", "pods_be", "lc_under_way", "lc_late"].map((name) => [name, sum(clusters, name)]));
  const waiting = sum(fleet.runs, "waiting");
  const oldest = fleet.queue.length ? Math.max(...fleet.queue.map((q) => q.oldest_s)) : null;
  const lc = lately.services.filter((service) => service.service_class === "lc" && service.rate !== null);
  const worst = lc.length ? lc.reduce((a, b) => (a.rate <= b.rate ? a : b)) : null;
  const down = processes.filter((process) => process.state !== "running");
  return [
    heading("Fleet",
      h("span", null, fleet.fleet || "no fleet"), h("span", null, amount(clusters.length, "cluster")),
      h("span", null, `${count(all.ready)} of ${amount(all.nodes, "node")} ready`),
      processes.length ? h("span", null, down.length ? h("a", { href: "/processes" }, badge(`${amount(down.length, "process", "processes")} of ${processes.length} not running`, "bad")) : h("a", { href: "/processes" }, `${amount(processes.length, "process", "processes")} running`)) : null),
    tiles(
      tile("QoS", percent(lately.lc_rate), `LC in time, ${duration(lately.window_s)}`, lately.lc_rate !== null && lately.lc_rate < 0.95 ? "alert" : ""),
      tile("Worst service", worst ? percent(worst.rate) : "–", worst ? worst.service : "no LC ended", worst && worst.rate < 0.95 ? "alert" : ""),
      tile("LC now", count(all.lc_under_way), all.lc_late ? `${count(all.lc_late)} late` : "none late", all.lc_late ? "alert" : ""),
      tile("BE pods", count(all.pods_be), `${cores(all.cpu_be_millicores)} cores`),
      tile("Waiting", count(waiting), oldest === null ? "nothing" : `oldest ${duration(oldest)}`),
      tile("Free CPU", percent(all.cpu_millicores ? cpuFree(all) / all.cpu_millicores : null), `${cores(cpuFree(all))} of ${cores(all.cpu_millicores)} cores`)),
    fleet.paused.length ? section("Refused", table("What clusters refuse", [
      { name: "Where", of: (p) => [p.cluster, p.service, p.node].filter(Boolean).join(" / ") },
      { name: "Kind", of: (p) => p.kind },
      { name: "Words", of: (p) => p.words, class: "wrap" },
      { name: "Since", of: (p) => duration(p.since_s), number: true },
      { name: "Tried again in", of: (p) => duration(p.left_s), number: true },
    ], fleet.paused, { key: (p) => `${p.cluster}/${p.service}/${p.node}/${p.role}` })) : null,
    section("Clusters",
      legend(...PARTS),
      clusters.length ? h("ul", { class: `cards ${clusters.length > 24 ? "many" : ""}`, "data-key": "cards" }, clusters.map((cluster) => card(cluster, fleet.maps[cluster.name], clusters.length > 24)))
        : h("p", { class: "note" }, "No cluster has joined yet.")),
  ];
}

function stateOf(cluster) {
  if (cluster.is_away) return badge(`away for ${duration(cluster.age_s)}`, "bad");
  if (cluster.ready < cluster.nodes) return badge(`${cluster.nodes - cluster.ready} not ready`, "bad");
  if (cluster.closed) return badge(`${cluster.closed} closed`, "warn");
  return badge("ready", "good");
}

function card(cluster, map, many) {
  const name = h("h3", null, h("a", { href: `/clusters/${encodeURIComponent(cluster.name)}` }, cluster.name));
  const held = cluster.memory_lc_mib + cluster.memory_be_mib + cluster.memory_other_mib;
  return h("li", { class: "card", "data-key": cluster.name },
    h("div", { class: "card-head" }, name, stateOf(cluster)),
    h("div", { class: "row" }, h("span", { class: "label" }, "CPU"), cpuBar(cluster), h("span", { class: "value" }, `${cores(cluster.cpu_millicores - cpuFree(cluster))} / ${cores(cluster.cpu_millicores)}`)),
    many ? null : h("div", { class: "row" }, h("span", { class: "label" }, "Memory"), memoryBar(cluster), h("span", { class: "value" }, percent(cluster.memory_mib ? held / cluster.memory_mib : null))),
    many ? null : h("dl", { class: "small" },
      h("div", null, h("dt", null, "Nodes"), h("dd", null, `${cluster.ready} / ${cluster.nodes}`)),
      h("div", null, h("dt", null, "LC pods"), h("dd", null, count(cluster.pods_lc))),
      h("div", null, h("dt", null, "BE pods"), h("dd", null, count(cluster.pods_be))),
      h("div", null, h("dt", null, "LC now"), h("dd", null, count(cluster.lc_under_way), cluster.lc_late ? h("span", { class: "bad" }, ` ${count(cluster.lc_late)} late`) : ""))),
    map.name.length ? nodeMap(map, `${amount(cluster.nodes, "node")} of ${cluster.name}, each by what it holds`) : null);
}
