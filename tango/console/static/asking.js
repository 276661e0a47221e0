// A change: it asks first, in a dialog that keyboard and screen reader know, and says afterwards what came of it.
import { h } from "./dom.js";

/** A button that asks `question` and then posts to `address`. */
export const action = (word, question, address, { kind = "danger", disabled = false } = {}) =>
  h("button", { type: "button", class: kind, disabled, onclick: () => ask(word, question, address) }, word);

function ask(word, question, address) {
  const dialog = h("dialog", { class: "ask", "aria-label": word },
    h("form", { method: "dialog" }, h("p", null, question),
      h("div", { class: "buttons" }, h("button", { value: "no", autofocus: true }, "Leave it"), h("button", { value: "yes", class: "danger" }, word))));
  dialog.addEventListener("close", async () => {
    dialog.remove();
    if (dialog.returnValue === "yes") said(await post(address));
  });
  document.body.append(dialog);
  dialog.showModal();
}

async function post(address) {
  try {
    const answer = await fetch(address, { method: "POST" });
    const told = await answer.json();
    return answer.ok ? told.outcome : `Refused: ${told.error}`;
  } catch {
    return "The console does not answer; look whether it was done.";
  }
}

function said(text) {
  const place = document.getElementById("said");
  place.className = "said";
  place.textContent = text;
  setTimeout(() => {
    place.className = "hidden-text";
  }, 8000);
}
