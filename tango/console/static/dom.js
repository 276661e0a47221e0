// Elements as values: `h` makes one, `patch` brings what is shown to what should be. Elements stay where they are, so that focus,
// selection and scroll positions survive a page that is made anew every second. Texts are set as texts and never as markup.

const SVG = "http://www.w3.org/2000/svg";

function made(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element[name] = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : String(child));
  }
  return element;
}

/** An element of HTML. Attributes that are null or false are left out; those that begin with `on` are handlers. */
export const h = (name, attributes, ...children) => made(document.createElement(name), attributes, children);

/** An element of SVG. */
export const s = (name, attributes, ...children) => made(document.createElementNS(SVG, name), attributes, children);

const keyOf = (node) => (node.nodeType === Node.ELEMENT_NODE ? node.getAttribute("data-key") : null);
const alike = (a, b) => a.nodeType === b.nodeType && a.nodeName === b.nodeName && keyOf(a) === keyOf(b);
// What people have changed themselves, and the page may not take back.
const OWN = { INPUT: ["checked", "value"], SELECT: ["value"], DETAILS: ["open"], DIALOG: ["open"] };

/** Makes the children of `shown` like `wanted`, an array of nodes. Children with a `data-key` are found again by it. */
export function patch(shown, wanted) {
  const keyed = new Map();
  for (const child of shown.childNodes) if (keyOf(child) !== null) keyed.set(keyOf(child), child);
  let at = shown.firstChild;
  for (const next of wanted) {
    const known = keyOf(next) !== null ? keyed.get(keyOf(next)) : at;
    if (known && alike(known, next)) {
      if (known === at) at = at.nextSibling;
      else shown.insertBefore(known, at);
      become(known, next);
    } else {
      shown.insertBefore(next, at);
      if (at && keyOf(at) === null && keyOf(next) === null) {
        const gone = at;
        at = at.nextSibling;
        gone.remove();
      }
    }
  }
  while (at) {
    const gone = at;
    at = at.nextSibling;
    gone.remove();
  }
}

function become(shown, wanted) {
  if (shown.nodeType === Node.TEXT_NODE) {
    if (shown.data !== wanted.data) shown.data = wanted.data;
    return;
  }
  const own = OWN[shown.nodeName] || [];
  for (const { name, value } of [...wanted.attributes])
    if (!own.includes(name) && shown.getAttribute(name) !== value) shown.setAttribute(name, value);
  for (const { name } of [...shown.attributes]) if (!own.includes(name) && !wanted.hasAttribute(name)) shown.removeAttribute(name);
  for (const handler of ["onclick", "onchange", "onsubmit"]) shown[handler] = wanted[handler];
  patch(shown, [...wanted.childNodes]);
}
