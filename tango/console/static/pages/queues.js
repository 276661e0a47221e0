// What waits: by service and cluster, the oldest first, and what is late of LC.
import { h } from "../dom.js";
import { amount, count, duration, percent } from "../format.js";
import { badge, heading, section, serviceClass, table, tile, tiles } from "../parts.js";

export const of = ["fleet"];

export function render({ fleet }) {
  const waiting = fleet.runs.reduce((sum, run) => sum + run.waiting, 0);
  const flight = fleet.runs.reduce((sum, run) => sum + run.in_flight, 0);
  const oldest = fleet.queue.length ? fleet.queue[0] : null;
  const late = fleet.clusters.reduce((sum, cluster) => sum + cluster.lc_late, 0);
  return [
    heading("Queues", h("span", null, amount(fleet.runs.length, "open run"))),
    tiles(
      tile("Waiting", count(waiting), "due, not placed"),
      tile("Oldest", oldest ? duration(oldest.oldest_s) : "–", oldest ? oldest.service : "nothing waits"),
      tile("Running", count(flight), "given to a cluster"),
      tile("LC now", count(fleet.clusters.reduce((sum, cluster) => sum + cluster.lc_under_way, 0)), late ? `${count(late)} late` : "none late", late ? "alert" : "")),
    section("By service and cluster",
      fleet.queue_is_cut ? h("p", { class: "note" }, "More waits than is looked at every second: these are the oldest of each run, class and state.") : null,
      table("What waits", [
        { name: "Service", of: (q) => q.service },
        { name: "Class", of: (q) => serviceClass(q.service_class) },
        { name: "Entered", of: (q) => q.cluster },
        { name: "State", of: (q) => q.state },
        { name: "Requests", of: (q) => count(q.requests), number: true },
        { name: "Oldest", of: (q) => duration(q.oldest_s), number: true },
      ], fleet.queue, { key: (q) => `${q.service}/${q.cluster}/${q.state}`, empty: "Nothing waits." })),
    fleet.tenants.length ? section("Shares of tenants", table("Shares of tenants", [
      { name: "Tenant", of: (t) => t.tenant },
      { name: "Weight", of: (t) => String(t.weight), number: true },
      { name: "Holds", of: (t) => percent(t.share), number: true },
      { name: "Over its weight", of: (t) => percent(t.weighted_share), number: true },
      { name: "Waits below its share", of: (t) => duration(t.below_s), number: true },
      { name: "Gets", of: (t) => (t.withheld ? badge("nothing now", "warn") : badge("its turn", "quiet")) },
    ], fleet.tenants, { key: (t) => t.tenant })) : null,
    section("LC by cluster", table("LC requests by cluster", [
      { name: "Cluster", of: (c) => c.name },
      { name: "Under way", of: (c) => count(c.lc_under_way), number: true },
      { name: "Late", of: (c) => h("span", { class: c.lc_late ? "bad" : "" }, count(c.lc_late)), number: true },
    ], fleet.clusters, { key: (c) => c.name, href: (c) => `/clusters/${encodeURIComponent(c.name)}`, empty: "No cluster has joined yet." })),
    section("Find a request", h("form", { class: "find", onsubmit: (event) => {
      event.preventDefault();
      const key = event.target.elements.key.value.trim().replace("/", "-");
      if (/^\d+-\d+$/.test(key)) location.assign(`/requests/${key}`);
    } }, h("label", { for: "key" }, "Run and number, as in 1-4711"), h("input", { id: "key", name: "key", type: "text", inputmode: "numeric", pattern: "\\d+[\\-\\/]\\d+", required: true }), h("button", { type: "submit" }, "Show"))),
  ];
}
