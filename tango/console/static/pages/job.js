// One job: how it stands, what it has written, and the way to end it.
import { h } from "../dom.js";
import { count, duration, instant } from "../format.js";
import { heading, section, table, tile, tiles } from "../parts.js";
import { action } from "../asking.js";
import { stateOf, took } from "./jobs.js";

export const of = [];

async function read(state) {
  try {
    state.job = await (await fetch(`/api/jobs/${state.parameters.key}`)).json();
  } catch {
    // The page says by itself that the console does not answer.
  }
  state.changed();
  if (!state.job?.has_ended && !state.job?.error) setTimeout(() => read(state), 2000);
}

export const begin = (state) => read(state);

export function render(_, { job, parameters }) {
  const up = h("p", { class: "kicker", "data-key": "up" }, h("a", { href: "/jobs" }, "Jobs"));
  if (!job || job.error) return [up, heading(`Job ${parameters.key}`), h("p", { class: "note" }, job?.error || "Reading…")];
  return [
    up,
    heading(`Job ${job.job}`, h("span", null, stateOf(job.state)), h("span", null, "service ", h("b", null, job.service)), h("span", null, "tenant ", h("b", null, job.tenant)),
      h("a", { href: `/requests/${job.job}` }, "its way in time"),
      job.has_ended ? null : action("Cancel job", `Cancel job ${job.job}? Its pod has its grace and is gone some seconds later.`, `/api/jobs/${job.job}/cancel`)),
    tiles(
      tile("Exit code", job.exit_code === null ? "–" : String(job.exit_code), job.message || ""), tile("Attempts", count(job.attempts), `${job.retries_used} of ${job.retries} retries used`),
      tile("Ran", duration(took(job)), job.node ? `${job.cluster}/${job.node}` : "no node yet"), tile("Submitted", instant(job.submitted_at_s).slice(11), `${instant(job.submitted_at_s).slice(0, 10)} UTC`)),
    job.reason || job.waiting ? section("Why", h("p", null, job.reason || job.waiting)) : null,
    section("Log", job.remarks.map((text) => h("p", { class: "note" }, text)), job.log ? h("pre", { class: "log", tabindex: "0", "aria-label": "Log" }, job.log) : null),
    job.containers.length ? section("Containers", table("Containers", [
      { name: "Name", of: (c) => c.name ?? c.container },
      { name: "Exit", of: (c) => String(c.exit_code), number: true },
      { name: "Reason", of: (c) => c.reason || "–" },
    ], job.containers)) : null,
  ];
}
