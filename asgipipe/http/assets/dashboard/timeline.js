/** The steps of one run, in their order, each with a bar on the common clock. */

import { duration, h, state, svg } from "./elements.js";

const MOST_ROWS = 500;
const PAUSE = 100; // milliseconds between two drawings
const SLOW_PAUSE = 500; // while nothing happens but time

export class Timeline {
  #rows = [];
  #left = 0;
  #timer = 0;
  #lag = 0; // milliseconds by which the clock here is ahead of the events

  constructor() {
    this.body = h("tbody");
    this.rest = h("p", { class: "muted" });
    const head = ["Step", "State", "When", "Time"].map((text) => h("th", { scope: "col" }, text));
    const table = h("table", { class: "steps" }, h("caption", {}, "Steps"), h("thead", {}, h("tr", {}, ...head)), this.body);
    const place = h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "The steps of the run" }, table);
    this.element = h("div", { hidden: true }, place, this.rest);
  }

  reset() {
    this.#rows = [];
    this.#left = 0;
    this.body.replaceChildren();
    this.#later();
  }

  /** @param {string} name @param {number} moment milliseconds @param {number} attempt */
  begin(name, moment, attempt = 1) {
    this.#lag = Date.now() - moment;
    const again = attempt > 1 && this.#rows.findLast((row) => row.name === name && row.state !== "completed");
    if (again) Object.assign(again, { state: "running", end: null, attempt, error: "" });
    else this.#add({ name, state: "running", start: moment, end: null, attempt, error: "" });
    this.#later();
  }

  /** A step that ended: the first of its name that runs, or one that nobody saw begin. */
  end(name, moment, result, error = "") {
    let row = this.#rows.find((each) => each.name === name && each.state === "running");
    if (!row) row = this.#add({ name, start: moment, attempt: 1 });
    if (row) Object.assign(row, { state: result, end: moment, error });
    this.#later();
  }

  /** Show that nothing runs any more. */
  close(moment, result) {
    for (const row of this.#rows) if (row.state === "running") Object.assign(row, { state: result, end: moment });
    this.#later();
  }

  /** The recorded steps of a run, as GET /runs/{run_id} has them. */
  show(steps) {
    this.reset();
    for (const step of steps) {
      const start = Date.parse(step.started_at);
      const end = start + (step.execution_time ?? 0) * 1000;
      this.#add({ name: step.name, state: step.status, start, end, attempt: step.attempt, error: step.error ?? "" });
    }
    this.#later();
  }

  #add(row) {
    if (this.#rows.length >= MOST_ROWS) {
      this.#left += 1;
      return null;
    }
    const cells = [h("th", { scope: "row" }), h("td"), h("td", { class: "bar" }), h("td", { class: "number" })];
    row.cells = cells;
    this.#rows.push(row);
    this.body.append(h("tr", {}, ...cells));
    return row;
  }

  #later(pause = PAUSE) {
    this.#timer ||= setTimeout(() => { this.#timer = 0; this.#draw(); }, pause);
  }

  #draw() {
    const rows = this.#rows;
    this.element.hidden = rows.length === 0;
    this.rest.textContent = this.#left ? `${this.#left} further steps are not listed.` : "";
    const first = Math.min(...rows.map((row) => row.start));
    const goesOn = rows.some((row) => row.end === null);
    const last = Math.max(...rows.map((row) => row.end ?? Date.now() - this.#lag), first + 1);
    for (const row of rows) {
      const end = row.end ?? last;
      const [name, what, bar, time] = row.cells;
      const key = [row.state, row.attempt, row.error].join();
      if (row.shown !== key) {
        row.shown = key;
        name.textContent = row.attempt > 1 ? `${row.name} (attempt ${row.attempt})` : row.name;
        what.replaceChildren(state(row.state), row.error ? h("div", { class: "error" }, row.error) : "");
      }
      time.textContent = row.end === null ? "" : duration((end - row.start) / 1000);
      bar.replaceChildren(strip((row.start - first) / (last - first), (end - row.start) / (last - first), row.state));
    }
    if (goesOn) this.#later(SLOW_PAUSE);
  }
}

function strip(start, length, name) {
  const x = Math.min(start * 1000, 995);
  const rect = svg("rect", { x, y: 0, width: Math.max(length * 1000, 5), height: 10, rx: 3, class: `strip ${name}` });
  return svg("svg", { viewBox: "0 0 1000 10", preserveAspectRatio: "none", "aria-hidden": "true" }, rect);
}
