/** Makes elements. Text is only ever inserted as text, and styles come from the style sheet alone. */

const SVG = "http://www.w3.org/2000/svg";

/**
 * @param {string} tag
 * @param {Record<string, unknown>} [properties] attributes; `on*` are listeners; false, null and undefined are left out
 * @param {...(Node | string | number | null | undefined | false)} children
 */
export function h(tag, properties, ...children) {
  return fill(document.createElement(tag), properties, children);
}

/** The same in the name space of SVG. */
export function svg(tag, properties, ...children) {
  return fill(document.createElementNS(SVG, tag), properties, children);
}

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== false && value !== null && value !== undefined) {
      element.setAttribute(name, value === true ? "" : String(value));
    }
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

let count = 0;

/** An id that no other element of the page has. */
export function unique(prefix) {
  count += 1;
  return `${prefix}-${count}`;
}

/** @param {number | null | undefined} seconds */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 0.0001) return "< 0.1 ms";
  if (seconds < 1) return `${Number((seconds * 1000).toPrecision(3))} ms`;
  if (seconds < 100) return `${seconds.toFixed(2)} s`;
  return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
}

/** The time of day of an RFC 3339 time, in the reader's zone; with the date unless it is today's. */
export function clock(time) {
  if (!time) return "–";
  const moment = new Date(time);
  const today = moment.toDateString() === new Date().toDateString();
  return today ? moment.toLocaleTimeString() : moment.toLocaleString();
}

/** A state in words, with a sign, so that its colour is never all that tells. */
export function state(name) {
  const signs = { completed: "✓", failed: "✕", canceled: "⊘", running: "●", pending: "○", restored: "↺" };
  return h("span", { class: `state ${name}` }, h("span", { "aria-hidden": "true" }, `${signs[name] ?? "·"} `), name);
}

/** Call `work` every `seconds` while the page is seen, and when what is returned is called; calls never overlap. */
export function whileSeen(seconds, work) {
  let timer = 0;
  let busy = false;
  let again = false;
  const turn = async () => {
    clearTimeout(timer);
    again = busy;
    if (document.hidden || busy) return;
    busy = true;
    try {
      await work();
    } finally {
      busy = false;
      timer = setTimeout(turn, again ? 0 : seconds * 1000);
    }
  };
  document.addEventListener("visibilitychange", turn);
  void turn();
  return turn;
}
