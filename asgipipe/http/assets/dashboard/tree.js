/** A JSON value as a tree that opens and closes. */

import { h } from "./elements.js";

const FIRST = 100; // members shown at once
const OPEN = 2; // levels that are open from the start
const LONGEST = 20_000; // characters of one text

/** @param {string | null} name @param {unknown} value */
export function tree(name, value, depth = 0) {
  const label = name === null ? "" : h("span", { class: "name" }, `${name}: `);
  if (typeof value !== "object" || value === null) return h("div", { class: "leaf" }, label, leaf(value));
  const members = Array.isArray(value) ? value.map((each, index) => [String(index), each]) : Object.entries(value);
  const what = Array.isArray(value) ? `[${members.length}]` : `{${members.length}}`;
  if (!members.length) return h("div", { class: "leaf" }, label, what);
  const body = h("div", { class: "branch" });
  const element = h("details", { open: depth < OPEN }, h("summary", {}, label, h("span", { class: "muted" }, what)), body);
  // Members are made when they are first seen: a result may be large.
  const grow = () => element.open && !body.childNodes.length && more(body, members, 0, depth);
  element.addEventListener("toggle", grow);
  grow();
  return element;
}

function more(body, members, start, depth) {
  const part = members.slice(start, start + FIRST);
  body.append(...part.map(([name, value]) => tree(name, value, depth + 1)));
  if (start + FIRST >= members.length) return;
  const left = members.length - start - FIRST;
  const button = h("button", { type: "button", class: "plain" }, `Show more of the remaining ${left}`);
  button.addEventListener("click", () => { button.remove(); more(body, members, start + FIRST, depth); });
  body.append(button);
}

function leaf(value) {
  const kind = value === null ? "null" : typeof value;
  const text = typeof value === "string" ? value : String(value);
  const cut = text.length > LONGEST ? `${text.slice(0, LONGEST)} … (${text.length - LONGEST} more characters)` : text;
  return h("span", { class: `value ${kind}` }, cut);
}
