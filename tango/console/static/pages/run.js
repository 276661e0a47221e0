// One run: its facts and figures; while it goes on, how far it is.
import { h } from "../dom.js";
import { count, duration, instant, percent } from "../format.js";
import { heading, meter, section, table, tile, tiles } from "../parts.js";
import { action } from "../asking.js";
import { done, statusOf } from "./runs.js";

export const of = ["fleet"];

async function read(state) {
  const answer = await fetch(`/api/runs/${state.parameters.run}`);
  state.run = await answer.json();
  state.changed();
  if (answer.ok && !state.run.ended_at_s) setTimeout(() => read(state), 5000);
}

export const begin = (state) => read(state);

export function render({ fleet }, { run, parameters }) {
  if (!run) return [heading(`Run ${parameters.run}`)];
  const up = h("p", { class: "kicker", "data-key": "up" }, h("a", { href: "/runs" }, "Runs"));
  if (run.error) return [up, heading(`Run ${parameters.run}`), h("p", { class: "note" }, run.error)];
  const now = fleet.runs.find((r) => String(r.run_id) === parameters.run);
  const figures = Object.entries(run.figures).map(([name, value]) => ({ name, value }));
  const figure = (name) => run.figures[name] ?? null;
  return [
    up,
    heading(`Run ${run.run}${run.name ? `: ${run.name}` : ""}`, h("span", null, statusOf(now ? now.status : run.status)), h("span", null, "system ", h("b", null, run.system)), h("span", null, "fleet ", h("b", null, run.fleet)), h("span", null, run.kind),
      now && now.status !== "cancelling" ? action("Cancel run", `Cancel run ${run.run}? Nothing of it is started any more, and what is not finished is given up, pods and all.`, `/api/runs/${run.run}/cancel`) : null),
    now
      ? tiles(
          tile("Progress", done(now) === null ? count(now.succeeded + now.lost) : percent(done(now)), done(now) === null ? "requests ended" : h("span", null, meter(done(now), `${percent(done(now))} ended`))),
          tile("QoS so far", percent(now.lc_ended ? now.lc_in_time / now.lc_ended : null), `${count(now.lc_ended)} LC ended`),
          tile("Waiting", count(now.waiting), "due, not placed"), tile("Running", count(now.in_flight), "given to a cluster"),
          tile("BE done", count(now.be_succeeded), `${count(now.be_ended)} ended`), tile("Lost", count(now.lost), "without an answer"))
      : tiles(
          tile("QoS rate", percent(figure("lc_qos_rate")), "LC within target"),
          tile("LC p95", figure("lc_latency_p95_ms") === null ? "–" : `${count(figure("lc_latency_p95_ms"))} ms`, "trace time"),
          tile("BE throughput", figure("be_cpu_seconds_per_s") === null ? "–" : figure("be_cpu_seconds_per_s").toFixed(2), "CPU-seconds per second"),
          tile("CPU used", percent(figure("utilization_cpu")), "by useful work"),
          tile("Evictions", count(figure("evictions")), ""), tile("Resizes", count(figure("resizes")), "")),
    section("Facts", h("dl", { class: "facts-list" }, [
      ["Requests", count(run.accepted)], ["Submitted", instant(run.submitted_at_s)], ["Began", instant(run.started_at_s)], ["Ended", instant(run.ended_at_s)],
      ["Duration", duration(run.duration_s)], ["Trace", run.trace_source], ["Speed", `${run.speed}`], ["Seed", `${run.seed}`],
    ].map(([name, value]) => h("div", { "data-key": name }, h("dt", null, name), h("dd", null, value))))),
    figures.length ? section("Figures", table("All figures", [
      { name: "Figure", of: (f) => f.name },
      { name: "Value", of: (f) => (typeof f.value === "number" ? f.value.toLocaleString("en", { maximumFractionDigits: 4 }) : f.value), number: true },
    ], figures, { key: (f) => f.name })) : null,
    section("From the command line", h("pre", null, `tango run show ${run.run}\ntango report ${run.run}\ntango run requests ${run.run} --late`)),
  ];
}
