/**
 * The graph of the steps as a picture: layers by the way of the data, drawn across where there is room, else downwards.
 *
 * @typedef {{id: string, step: string, kind: string, branch: boolean, loop: boolean, dynamic: boolean}} Node
 * @typedef {{source: string, target: string}} Edge
 * @typedef {{node: Node | null, layer: number, place: number, before: Spot[]}} Spot a node, or where an edge passes a layer
 */

import { h, svg } from "./elements.js";

const MOST_NODES = 300; // beyond that a picture helps nobody
const LONGEST_NAME = 15; // characters that fit into a box
const [WIDTH, HEIGHT, ACROSS, ALONG] = [152, 44, 24, 44]; // of a box, and the gaps between boxes
const [SMALL, SMALLEST] = [0.8, 0.6]; // how far the picture may shrink: to be drawn across, and at all
const SWEEPS = 4;
const SIGNS = { completed: "✓", failed: "✕", canceled: "⊘", running: "●", restored: "↺" };
const MARKS = {
  branch: ["◇", "may be left out"],
  loop: ["⟳", "may run several times"],
  dynamic: ["?", "only known when it runs"],
  pipeline: ["▣", "a pipeline inside this one"],
};

export class Graph {
  #drawn = new Map(); // node id -> its group
  #states = new Map(); // node id -> how many run, and what the last one came to
  #turn = new Map(); // step name -> which of its nodes is meant

  /** @param {{nodes: Node[], edges: Edge[], dynamic: boolean}} graph */
  constructor(graph) {
    this.nodes = graph.nodes.slice(0, MOST_NODES);
    this.edges = graph.edges;
    this.cut = graph.nodes.length - this.nodes.length;
    this.place = h("div", { class: "graph", tabindex: "0", role: "group", "aria-label": "The graph of the steps" });
    this.element = h("figure", {}, this.place, this.#legend(graph.dynamic));
    new ResizeObserver(() => this.#draw()).observe(this.place);
  }

  /** Forget what was marked. */
  reset() {
    this.#states.clear();
    this.#turn.clear();
    for (const id of this.#drawn.keys()) this.#paint(id);
  }

  /** Show that a call of `step` begins. Calls of a step that stands in several places are taken in their order. */
  begin(step, attempt = 1) {
    const places = this.nodes.filter((node) => node.step === step);
    if (!places.length) return;
    const turn = this.#turn.get(step) ?? -1;
    const next = attempt > 1 && turn >= 0 ? turn : Math.min(turn + 1, places.length - 1);
    this.#turn.set(step, next);
    const id = places[next].id;
    const state = this.#states.get(id) ?? { running: 0, last: "" };
    this.#states.set(id, { ...state, running: state.running + 1 });
    this.#paint(id);
  }

  /** Show what a call of `step` came to. */
  end(step, last) {
    const places = this.nodes.filter((node) => node.step === step);
    const node = places.find(({ id }) => this.#states.get(id)?.running) ?? places.find(({ id }) => !this.#states.has(id));
    if (!node) return;
    const running = Math.max(0, (this.#states.get(node.id)?.running ?? 0) - 1);
    this.#states.set(node.id, { running, last });
    this.#paint(node.id);
  }

  /** Show that nothing runs any more. */
  close(last) {
    for (const [id, { running }] of this.#states) {
      if (running) this.#states.set(id, { running: 0, last });
      this.#paint(id);
    }
  }

  #paint(id) {
    const drawn = this.#drawn.get(id);
    if (!drawn) return;
    const { running = 0, last = "" } = this.#states.get(id) ?? {};
    const name = running ? "running" : last;
    drawn.group.dataset.state = name;
    drawn.sign.textContent = SIGNS[name] ?? "";
  }

  #legend(dynamic) {
    const shown = Object.entries(MARKS).filter(([mark]) => this.nodes.some((node) => has(node, mark)));
    const words = shown.map(([, [sign, text]]) => h("span", {}, h("b", { "aria-hidden": "true" }, sign), ` ${text}`));
    if (dynamic) words.push(h("span", {}, "There may be more steps than are shown."));
    if (this.cut) words.push(h("span", {}, `${this.cut} further steps are not drawn.`));
    return h("figcaption", { class: "muted" }, ...words);
  }

  #draw() {
    const width = this.place.clientWidth;
    if (!width) return;
    this.layers ??= arrange(this.nodes, this.edges);
    const across = this.layers.length * (WIDTH + ALONG) * SMALL <= width;
    if (across !== this.across) this.#redraw(across);
    const { at, picture } = this;
    const scale = Math.max(SMALLEST, Math.min(1, (width - 8) / at.width));
    picture.setAttribute("width", at.width * scale);
    picture.setAttribute("height", at.height * scale);
  }

  #redraw(across) {
    const { layers } = this;
    const at = across ? lengthwise(layers) : downwards(layers);
    const picture = svg("svg", { viewBox: `0 0 ${at.width} ${at.height}`, role: "img", "aria-label": this.#words() });
    picture.append(arrow(), ...this.#lines(layers, at), ...this.#boxes(layers, at));
    this.place.replaceChildren(picture);
    Object.assign(this, { across, at, picture });
    for (const id of this.#drawn.keys()) this.#paint(id);
  }

  #words() {
    const after = (id) => this.edges.filter((edge) => edge.target === id).map((edge) => edge.source);
    const one = (node) => [
      node.id,
      after(node.id).length ? ` after ${after(node.id).join(" and ")}` : "",
      ...Object.entries(MARKS).filter(([mark]) => has(node, mark)).map(([, [, text]]) => `, ${text}`),
    ];
    return `Steps: ${this.nodes.map((node) => one(node).join("")).join("; ")}.`;
  }

  #boxes(layers, at) {
    return layers.flat().filter((spot) => spot.node).map((spot) => {
      const { node } = spot;
      const [x, y] = at.point(spot);
      const marks = Object.entries(MARKS).filter(([mark]) => has(node, mark));
      const sign = svg("text", { class: "sign", x: 12, y: 27, "aria-hidden": "true" });
      const classes = ["node", ...marks.map(([mark]) => mark)].join(" ");
      const group = svg(
        "g",
        { class: classes, transform: `translate(${x - WIDTH / 2} ${y - HEIGHT / 2})` },
        svg("title", {}, [node.id, ...marks.map(([, [, text]]) => text)].join(", ")),
        svg("rect", { width: WIDTH, height: HEIGHT, rx: 9 }),
        svg("text", { x: WIDTH / 2 + 7, y: 27, "text-anchor": "middle" }, short(node.id)),
        svg("text", { class: "marks", x: WIDTH - 7, y: 13, "text-anchor": "end" }, marks.map(([, [mark]]) => mark).join("")),
        sign,
      );
      this.#drawn.set(node.id, { group, sign });
      return group;
    });
  }

  #lines(layers, at) {
    const spots = new Map(layers.flat().filter((spot) => spot.node).map((spot) => [spot.node.id, spot]));
    const lines = layers.flat().filter((spot) => spot.node).flatMap((spot) =>
      spot.before.map((before) => svg("path", { class: "edge", d: at.line(trail(before, spot)), "marker-end": "url(#arrow)" })));
    const order = new Map(this.nodes.map((node, index) => [node.id, index]));
    for (const { source, target } of this.edges) {
      if (!spots.has(source) || !spots.has(target) || order.get(source) < order.get(target)) continue;
      lines.push(svg("path", { class: "edge back", d: at.back(spots.get(source), spots.get(target)), "marker-end": "url(#arrow)" }));
    }
    return lines;
  }
}

function has(node, mark) {
  return mark === "pipeline" ? node.kind === "pipeline" : node[mark];
}

function short(name) {
  return name.length > LONGEST_NAME ? `${name.slice(0, LONGEST_NAME - 1)}…` : name;
}

function arrow() {
  const marker = svg(
    "marker",
    { id: "arrow", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto" },
    svg("path", { d: "M0 0 8 4 0 8z" }),
  );
  return svg("defs", {}, marker);
}

/**
 * Put each node one layer after the last of those it needs. An edge that passes layers gets a spot in each of them, so
 * that it goes round the boxes there; edges that point backwards (a loop's next turn) are left out.
 *
 * @returns {Spot[][]}
 */
export function arrange(nodes, edges) {
  const layers = [];
  const spots = new Map();
  const put = (spot) => { (layers[spot.layer] ??= []).push(spot); return spot; };
  for (const node of nodes) {
    const needed = new Set(edges.filter((edge) => edge.target === node.id).map((edge) => edge.source));
    const before = [...needed].map((id) => spots.get(id)).filter(Boolean);
    const layer = Math.max(-1, ...before.map((spot) => spot.layer)) + 1;
    const via = before.map((spot) => {
      let last = spot;
      for (let passed = spot.layer + 1; passed < layer; passed += 1) last = put({ node: null, layer: passed, place: 0, before: [last] });
      return last;
    });
    spots.set(node.id, put({ node, layer, place: 0, before: via }));
  }
  return untangle(layers);
}

/** Bring the spots of each layer into the order of their neighbours' middle, forwards and backwards in turn. */
function untangle(layers) {
  const after = new Map();
  for (const spot of layers.flat()) for (const before of spot.before) after.set(before, [...(after.get(before) ?? []), spot]);
  const number = (layer) => layer.forEach((spot, index) => { spot.place = index - (layer.length - 1) / 2; });
  layers.forEach(number);
  for (let sweep = 0; sweep < SWEEPS; sweep += 1) {
    const forwards = sweep % 2 === 0;
    for (const layer of forwards ? layers : layers.toReversed()) {
      const middle = new Map(layer.map((spot) => {
        const near = forwards ? spot.before : after.get(spot) ?? [];
        return [spot, near.length ? near.reduce((sum, each) => sum + each.place, 0) / near.length : spot.place];
      }));
      layer.sort((one, other) => middle.get(one) - middle.get(other));
      number(layer);
    }
  }
  return layers;
}

/** The spots from one node's side to the next node, the places where layers are passed in between. */
function trail(before, spot) {
  const passed = [spot];
  for (let each = before; each; each = each.node ? null : each.before[0]) passed.unshift(each);
  return passed;
}

function lengthwise(layers) {
  const most = Math.max(1, ...layers.map((layer) => layer.length));
  const height = most * (HEIGHT + ACROSS) + ACROSS;
  const point = ({ layer, place }) => [layer * (WIDTH + ALONG) + WIDTH / 2 + 2, height / 2 + place * (HEIGHT + ACROSS)];
  const line = (spots) => spots.slice(1).map((spot, index) => {
    const [from, to] = [point(spots[index]), point(spot)];
    const x = from[0] + (spots[index].node ? WIDTH / 2 : 0);
    const end = to[0] - (spot.node ? WIDTH / 2 : 0);
    const middle = (x + end) / 2;
    return `M${x} ${from[1]}C${middle} ${from[1]} ${middle} ${to[1]} ${end} ${to[1]}`;
  }).join("");
  const back = (source, target) => {
    const [from, to] = [point(source), point(target)];
    const [y, end] = [from[1] - HEIGHT / 2, to[1] - HEIGHT / 2];
    return `M${from[0] + 12} ${y}C${from[0] + 12} ${y - ACROSS} ${to[0] - 12} ${end - ACROSS} ${to[0] - 12} ${end}`;
  };
  return { width: layers.length * (WIDTH + ALONG) - ALONG + 4, height, point, line, back };
}

function downwards(layers) {
  const most = Math.max(1, ...layers.map((layer) => layer.length));
  const width = most * (WIDTH + ACROSS) + ACROSS;
  const point = ({ layer, place }) => [width / 2 + place * (WIDTH + ACROSS), layer * (HEIGHT + ALONG) + HEIGHT / 2 + 2];
  const line = (spots) => spots.slice(1).map((spot, index) => {
    const [from, to] = [point(spots[index]), point(spot)];
    const y = from[1] + (spots[index].node ? HEIGHT / 2 : 0);
    const end = to[1] - (spot.node ? HEIGHT / 2 : 0);
    const middle = (y + end) / 2;
    return `M${from[0]} ${y}C${from[0]} ${middle} ${to[0]} ${middle} ${to[0]} ${end}`;
  }).join("");
  const back = (source, target) => {
    const [from, to] = [point(source), point(target)];
    const [x, end] = [from[0] + WIDTH / 2, to[0] + WIDTH / 2];
    return `M${x} ${from[1] + 8}C${x + ACROSS} ${from[1] + 8} ${end + ACROSS} ${to[1] - 8} ${end} ${to[1] - 8}`;
  };
  return { width, height: layers.length * (HEIGHT + ALONG) - ALONG + 4, point, line, back };
}
