// What several pages are made of.
import { h, s } from "./dom.js";
import { NOTHING, cores, percent } from "./format.js";

/** A figure with its name and a remark. */
export const tile = (name, figure, remark, kind = "") =>
  h("div", { class: `tile ${kind}`, "data-key": name }, h("div", { class: "name" }, name), h("div", { class: "figure" }, figure), h("div", { class: "remark" }, remark || "\u00a0"));

export const tiles = (...of) => h("section", { class: "tiles", "aria-label": "Key figures", "data-key": "tiles" }, of);

/** A word with a sign before it: never by colour alone. */
export const badge = (word, kind) => h("span", { class: `badge ${kind}` }, h("span", { "aria-hidden": "true" }, { good: "●", warn: "▲", bad: "✕", quiet: "○" }[kind] || ""), " ", word);

/** Parts of a whole as a bar. `parts` are [class, amount]; `used` is marked where it was measured. */
export function bar(whole, parts, label, used = null) {
  let at = 0;
  const drawn = parts.map(([kind, value]) => {
    const from = Math.min(100, at);
    at += whole ? (100 * value) / whole : 0;
    return s("rect", { class: `part ${kind}`, x: from.toFixed(2), y: 0, width: Math.max(0, Math.min(100, at) - from).toFixed(2), height: 10 });
  });
  const mark = used === null || !whole ? null : s("rect", { class: "used", x: Math.min(99.4, (100 * used) / whole).toFixed(2), y: 0, width: 0.6, height: 10 });
  return s("svg", { class: "bar", viewBox: "0 0 100 10", preserveAspectRatio: "none", role: "img", "aria-label": label }, s("rect", { class: "part free", x: 0, y: 0, width: 100, height: 10 }), drawn, mark);
}

/** CPU of a cluster or a node by who holds it. */
export const cpuBar = (c) =>
  bar(c.cpu_millicores, [["lc", c.cpu_lc_millicores], ["be", c.cpu_be_millicores], ["other", c.cpu_other_millicores]], cpuWords(c), c.cpu_used_millicores);

export const cpuFree = (c) => Math.max(0, c.cpu_millicores - c.cpu_lc_millicores - c.cpu_be_millicores - c.cpu_other_millicores);

export const cpuWords = (c) =>
  `LC holds ${cores(c.cpu_lc_millicores)}, BE ${cores(c.cpu_be_millicores)}, others ${cores(c.cpu_other_millicores)}, free ${cores(cpuFree(c))} of ${cores(c.cpu_millicores)} cores`;

export const memoryBar = (c) => {
  const held = c.memory_lc_mib + c.memory_be_mib + c.memory_other_mib;
  const share = c.memory_mib ? held / c.memory_mib : null;
  return bar(c.memory_mib, [["lc", c.memory_lc_mib], ["be", c.memory_be_mib], ["other", c.memory_other_mib]], `memory held: ${percent(share)}`);
};

export const PARTS = [["lc", "LC"], ["be", "BE"], ["other", "pods of others"], ["free", "free"], ["used", "measured use"]];

export const legend = (...of) => h("ul", { class: "legend" }, of.map(([kind, word]) => h("li", null, s("svg", { class: "key", viewBox: "0 0 18 10", "aria-hidden": "true" }, s("rect", kind === "used" ? { class: "used", x: 8, width: 2, height: 10 } : { class: `part ${kind}`, width: 18, height: 10 })), word)));

const GAP = 2;

/** A fleet's cluster as a map: one cell a node, filled from below by what LC, BE and others hold. */
export function nodeMap(map, label) {
  const n = map.name.length, CELL = n <= 8 ? 36 : n <= 40 ? 20 : 11, step = CELL + GAP;
  const across = Math.max(1, Math.min(n, Math.floor(300 / step)));
  const paths = { free: "", lc: "", be: "", other: "", closed: "", gone: "" };
  for (let k = 0; k < n; k++) {
    const x = (k % across) * step, y = Math.floor(k / across) * step;
    const box = (from, to) => `M${x} ${(y + CELL * (1 - to)).toFixed(1)}h${CELL}v${(CELL * (to - from)).toFixed(1)}h-${CELL}z`;
    if (map.state[k] === 2) {
      paths.gone += `M${x + 2} ${y + 2}l${CELL - 4} ${CELL - 4}M${x + CELL - 2} ${y + 2}l-${CELL - 4} ${CELL - 4}M${x} ${y}h${CELL}v${CELL}h-${CELL}z`;
      continue;
    }
    paths.free += box(0, 1);
    let at = 0;
    for (const kind of ["lc", "be", "other"]) {
      const to = Math.min(1, at + map[kind][k] / 100);
      if (to > at) paths[kind] += box(at, to);
      at = to;
    }
    if (map.state[k] === 1) paths.closed += `M${x} ${y}l${CELL} ${CELL}M${x} ${y}h${CELL}v${CELL}h-${CELL}z`;
  }
  const width = across * step - GAP, height = Math.ceil(n / across) * step - GAP;
  return s("svg", { class: "map", viewBox: `-1 -1 ${width + 2} ${height + 2}`, width: width + 2, height: height + 2, role: "img", "aria-label": label },
    Object.entries(paths).map(([kind, d]) => s("path", { class: `cell ${kind}`, d })));
}

/** Shares over time as columns; the rule is the target. Values are null where nothing ended. */
export function columns(values, label, low = 0) {
  const n = values.length || 1, step = 100 / n;
  const drawn = values.map((value, k) => {
    if (value === null) return null;
    const level = Math.max(0.04, Math.min(1, (value - low) / (1 - low)));
    return s("rect", { class: value >= 0.95 ? "col good" : value >= 0.8 ? "col fair" : "col poor", x: (k * step + step * 0.12).toFixed(2), y: (24 * (1 - level)).toFixed(2), width: (step * 0.76).toFixed(2), height: (24 * level).toFixed(2) });
  });
  return s("svg", { class: "columns", viewBox: "0 0 100 24", preserveAspectRatio: "none", role: "img", "aria-label": label }, s("rect", { class: "base", x: 0, y: 23.4, width: 100, height: 0.6 }), drawn);
}

/** How far something is, 0 to 1. */
export const meter = (share, label) => bar(1, [["done", share || 0]], label);

/** A table. `columns` are {name, of, number, class}; of each row `of(row)` is shown. On a phone each row is a card of its own. */
export const table = (caption, heads, rows, { key = (row, k) => k, empty = "Nothing to show.", href = null, hidden = true } = {}) =>
  rows.length === 0
    ? h("p", { class: "note", "data-key": caption }, empty)
    : h("div", { class: "scroll", "data-key": caption, tabindex: "0", role: "region", "aria-label": caption },
        h("table", null,
          h("caption", { class: hidden ? "hidden-text" : "" }, caption),
          h("thead", null, h("tr", null, heads.map((head) => h("th", { scope: "col", class: head.number ? "num" : "" }, head.name || h("span", { class: "hidden-text" }, head.label))))),
          h("tbody", null, rows.map((row, k) =>
            h("tr", { "data-key": String(key(row, k)) }, heads.map((head, place) => {
              const shown = head.of(row);
              const inner = place === 0 && href ? h("a", { href: href(row) }, shown) : shown;
              return h(place === 0 ? "th" : "td", { scope: place === 0 ? "row" : null, class: `${head.number ? "num " : ""}${head.class || ""}${(inner ?? NOTHING) === NOTHING ? " none" : ""}`, "data-label": head.name || head.label }, inner ?? NOTHING);
            }))))));

export const heading = (title, ...facts) => h("div", { class: "heading", "data-key": "heading" }, h("h1", null, title), h("p", { class: "facts" }, facts));

export const section = (title, ...children) => h("section", { "data-key": title, "aria-label": title }, h("h2", null, title), children);

export const serviceClass = (name) => h("span", { class: `class ${name}` }, name.toUpperCase());
