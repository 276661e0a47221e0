// Services: how their requests fared in the last minutes, against their targets.
import { h } from "../dom.js";
import { count, duration, ms, percent } from "../format.js";
import { badge, columns, heading, section, table } from "../parts.js";

export const of = ["lately"];
const LOW = 0.8; // what LC misses is in the last per cents

const shares = (s) => s.ended_by_bucket.map((ended, k) => (ended ? s.in_time_by_bucket[k] / ended : null));
const judged = (rate) => (rate === null ? badge("–", "quiet") : badge(percent(rate), rate >= 0.95 ? "good" : rate >= 0.8 ? "warn" : "bad"));

export function render({ lately }) {
  const of = (name) => lately.services.filter((s) => s.service_class === name);
  return [
    heading("Services", h("span", null, `last ${duration(lately.window_s)}, in steps of ${duration(lately.bucket_s)}`), h("span", null, "latencies and targets in trace time")),
    section("Latency-critical", table("LC services", [
      { name: "Service", of: (s) => s.service },
      { name: "Tenant", of: (s) => s.tenant || "–" },
      { name: "In time", of: (s) => judged(s.rate) },
      { name: "Course", of: (s) => columns(shares(s), `in time, from ${percent(LOW)} to 100 %, last ${duration(lately.window_s)}`, LOW), class: "wide" },
      { name: "Target", of: (s) => ms(s.target_ms), number: true },
      { name: "p50", of: (s) => ms(s.latency_p50_ms), number: true },
      { name: "p95", of: (s) => h("span", { class: s.target_ms !== null && s.latency_p95_ms > s.target_ms ? "bad" : "" }, ms(s.latency_p95_ms)), number: true },
      { name: "Ended", of: (s) => count(s.ended), number: true },
      { name: "Missed", of: (s) => count(s.missed), number: true },
      { name: "of these lost", of: (s) => count(s.lost), number: true },
    ], of("lc"), { key: (s) => s.service, empty: "No LC request has ended in the last minutes." })),
    section("Best-effort", table("BE services", [
      { name: "Service", of: (s) => s.service },
      { name: "Tenant", of: (s) => s.tenant || "–" },
      { name: "Succeeded", of: (s) => count(s.in_time), number: true },
      { name: "Course", of: (s) => columns(shares(s), "share of attempts that succeeded"), class: "wide" },
      { name: "Attempts", of: (s) => count(s.ended), number: true },
      { name: "Not succeeded", of: (s) => count(s.lost), number: true },
      { name: "p50", of: (s) => ms(s.latency_p50_ms), number: true },
      { name: "p95", of: (s) => ms(s.latency_p95_ms), number: true },
    ], of("be"), { key: (s) => s.service, empty: "No BE attempt has ended in the last minutes." })),
  ];
}
