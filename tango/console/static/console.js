// The page: asks for what it shows over one stream of events, and makes itself anew whenever something comes.
import { h, patch } from "./dom.js";
import { clock } from "./format.js";

const SILENT_MS = 4000; // four looks: then what is shown is old, and says so
const main = document.getElementById("main");
const parameters = { ...document.body.dataset };
const page = await import(`./pages/${parameters.page}.js`);
const state = { data: {}, parameters, changed: () => show() };
let heardMs = 0;
let asked = false;

function show() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => {
    asked = false;
    if (page.of.some((name) => !(name in state.data))) return;
    patch(main, page.render(state.data, state).flat(Infinity).filter(Boolean));
    main.removeAttribute("aria-busy");
  });
}

function tell(troubles) {
  const found = [...new Set(troubles.filter(Boolean))];
  patch(document.getElementById("trouble"), found.map((text) => h("p", { "data-key": text }, text)));
}

const troubles = {};
function connect() {
  if (!page.of.length) {
    // Its figures do not move, or it asks for them itself.
    document.getElementById("clock").classList.add("still");
    show();
    return;
  }
  const query = new URLSearchParams({ of: page.of.join(",") });
  if (parameters.cluster) query.set("cluster", parameters.cluster);
  const source = new EventSource(`/stream?${query}`);
  for (const name of page.of)
    source.addEventListener(name, (event) => {
      const told = JSON.parse(event.data);
      heardMs = performance.now();
      troubles[name] = told.trouble && `No new figures: ${told.trouble}`;
      if (told.value !== null || !(name in state.data)) state.data[name] = told.value;
      if (told.value === null && told.trouble) delete state.data[name];
      const at = state.data.fleet?.at_s ?? state.data.cluster?.at_s ?? state.data.lately?.at_s ?? Date.now() / 1000;
      document.getElementById("clock-text").textContent = `${clock(at)} UTC`;
      tell(Object.values(troubles));
      show();
    });
  source.onerror = () => {
    if (source.readyState !== EventSource.CLOSED) return; // the browser tries again by itself
    fetch("/healthz").then(() => fetch("/api/whoami")).then((answer) => {
      if (answer.status === 401) location.assign("/login");
    }).catch(() => {}).finally(() => setTimeout(connect, 2000));
  };
}

setInterval(() => {
  const isOld = performance.now() - heardMs > SILENT_MS;
  document.getElementById("clock").classList.toggle("old", isOld);
  if (isOld && heardMs) tell(["The console does not answer: what stands here is old.", ...Object.values(troubles)]);
}, 1000);

connect();
page.begin?.(state);
