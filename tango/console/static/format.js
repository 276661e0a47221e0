// Figures as people read them.

export const NOTHING = "–";
const is = (value) => value !== null && value !== undefined && !Number.isNaN(value);
const told = (make) => (value) => (is(value) ? make(value) : NOTHING);

export const count = told((n) => Math.round(n).toLocaleString("en"));
export const percent = told((share) => {
  const cents = 100 * share;
  return `${cents > 90 && cents < 100 ? (Math.floor(cents * 10) / 10).toFixed(1) : cents.toFixed(0)} %`;
});
export const ms = told((value) => (value < 10 ? `${value.toFixed(1)} ms` : value < 10000 ? `${count(value)} ms` : `${(value / 1000).toFixed(1)} s`));
export const cores = told((millicores) => (millicores / 1000).toFixed(1));
export const gib = told((mib) => (mib / 1024).toFixed(1));
export const clock = told((unixS) => new Date(unixS * 1000).toISOString().slice(11, 19));
export const instant = told((unixS) => new Date(unixS * 1000).toISOString().slice(0, 19).replace("T", " "));

/** Seconds as a person says them. */
export const duration = told((seconds) => {
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  for (const [size, unit, part, small] of [[86400, "d", 3600, "h"], [3600, "h", 60, "min"], [60, "min", 1, "s"]])
    if (whole >= size) {
      const rest = Math.floor((whole % size) / part);
      return `${Math.floor(whole / size)} ${unit}${rest ? ` ${rest} ${small}` : ""}`;
    }
  return `${whole} s`;
});
export const amount = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;
