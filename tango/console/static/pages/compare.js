// Runs side by side, each against the first.
import { h } from "../dom.js";
import { count } from "../format.js";
import { badge, heading, section, table } from "../parts.js";

export const of = [];

export const begin = async (state) => {
  state.compared = await (await fetch(`/api/compare/${state.parameters.runs}`)).json();
  state.changed();
};

function judged(row, k) {
  const [first, other] = [row.values[0], row.values[k]];
  if (k === 0 || first === null || other === null || !row.better) return row.texts[k];
  const difference = (other - first) * row.better;
  return h("span", null, row.texts[k], " ", difference === 0 ? badge("same", "quiet") : difference > 0 ? badge("better", "good") : badge("worse", "bad"));
}

export function render(_, { compared }) {
  const up = h("p", { class: "kicker", "data-key": "up" }, h("a", { href: "/runs" }, "Runs"));
  if (!compared || compared.error) return [up, heading("Runs side by side"), h("p", { class: "note" }, compared?.error || "Reading…")];
  const { runs, figures } = compared;
  const facts = ["name", "system", "kind", "fleet", "trace_source", "speed", "seed", "accepted", "status"];
  const heads = (first, cell) => [first, ...runs.map((run, k) => ({ name: `Run ${run.run_id}`, of: (row) => cell(row, k, run), number: true }))];
  return [
    up,
    heading("Runs side by side", h("span", null, runs.map((run) => run.run_id).join(", ")), h("span", null, "verdicts are against the first; one run is one sample")),
    section("What they are", table("What the runs are", heads({ name: "Fact", of: (name) => name.replace("_", " ") }, (name, k, run) => (typeof run[name] === "number" ? count(run[name]) : run[name])), facts, { key: (name) => name })),
    section("Figures", table("Figures of the runs", heads({ name: "Figure", of: (row) => row.name }, judged), figures, { key: (row) => row.name, empty: "Neither has ended: figures are computed then." })),
  ];
}
