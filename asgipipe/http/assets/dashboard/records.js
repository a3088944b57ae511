/** Recent jobs and recorded runs, as lists that keep themselves up to date while the page is seen. */

import { clock, duration, h, state, whileSeen } from "./elements.js";

const PERIOD = 5; // seconds between two looks
const PAGE = 10;
const MOST = 100; // rows of one list

/** What the two lists differ in. */
const KINDS = {
  jobs: { title: "Recent jobs", none: "No job was accepted yet: run the pipeline as a job or streamed." },
  runs: { title: "Recorded runs", none: "No run is recorded. Runs are recorded where the capture setting says so." },
};

export class Records {
  #api;
  #rows = new Map(); // id -> its row, and the text it shows
  #limit = PAGE;

  /** @param {"jobs" | "runs"} name @param {(record: object) => void} open shows one of them */
  constructor(api, name, open) {
    this.#api = api;
    this.name = name;
    this.open = open;
    const head = ["State", "Started", "Time", "Name", "Error", ""].map((text) =>
      h("th", { scope: "col" }, text || h("span", { class: "unseen" }, "Actions")));
    this.body = h("tbody");
    this.note = h("p", { class: "muted" });
    this.more = h("button", { type: "button", class: "plain", hidden: true, onclick: () => this.#grow() }, "Show more");
    const table = h("table", { class: "records" }, h("caption", { class: "unseen" }, KINDS[name].title), h("thead", {}, h("tr", {}, ...head)), this.body);
    const id = `${name}-title`;
    this.table = h("div", { class: "scroll", tabindex: "0", role: "group", "aria-labelledby": id }, table);
    this.element = h("section", { "aria-labelledby": id, id: name }, h("h2", { id }, KINDS[name].title), this.table, this.note, this.more);
    this.refresh = whileSeen(PERIOD, () => this.#load());
  }

  #grow() {
    this.#limit = Math.min(this.#limit * 2, MOST);
    void this.refresh();
  }

  async #load() {
    try {
      const page = await this.#api.newest(this.name, this.#limit);
      this.#show(page[this.name]);
      this.more.hidden = !page.next_cursor || this.#limit >= MOST;
      this.note.textContent = page[this.name].length ? "" : KINDS[this.name].none;
    } catch (error) {
      this.note.textContent = `This list is not up to date: ${error.message}`;
    }
  }

  #show(records) {
    const focused = document.activeElement?.closest("tr")?.dataset.id;
    const action = document.activeElement?.dataset.action;
    const rows = records.map((record) => this.#row(record));
    this.table.hidden = rows.length === 0;
    const kept = new Set(records.map((record) => record.run_id));
    for (const id of this.#rows.keys()) if (!kept.has(id)) this.#rows.delete(id);
    const unchanged = rows.length === this.body.children.length && rows.every((row, index) => row === this.body.children[index]);
    if (unchanged) return;
    this.body.replaceChildren(...rows);
    if (focused && action) this.#rows.get(focused)?.row.querySelector(`[data-action=${action}]`)?.focus();
  }

  #row(record) {
    const { run_id: id, status, started_at: started, execution_time: time, run_name: name, error } = record;
    const text = JSON.stringify([status, started, time, name, error, record.progress?.fraction]);
    const known = this.#rows.get(id);
    if (known?.text === text) return known.row;
    const share = status === "running" && record.progress?.fraction;
    const row = h(
      "tr",
      { "data-id": id },
      h("td", {}, state(status), share ? ` ${Math.round(share * 100)} %` : ""),
      h("td", {}, clock(started ?? record.created_at)),
      h("td", { class: "number" }, duration(time)),
      h("td", { class: "wide" }, name),
      h("td", { class: "error wide" }, (error ?? "").slice(0, 200)),
      h("td", { class: "actions" }, ...this.#actions(record)),
    );
    this.#rows.set(id, { row, text });
    return row;
  }

  #actions(record) {
    const show = h("button", { type: "button", class: "plain", "data-action": "show", "aria-label": `Show ${record.run_name}` }, "Show");
    show.addEventListener("click", () => this.open(record));
    if (this.name !== "jobs" || !["pending", "running"].includes(record.status)) return [show];
    const cancel = h("button", { type: "button", class: "plain", "data-action": "cancel", "aria-label": `Cancel ${record.run_name}` }, "Cancel");
    cancel.addEventListener("click", async () => {
      cancel.disabled = true;
      try {
        await this.#api.cancel(record.job_id);
      } catch (error) {
        this.note.textContent = error.message;
        cancel.disabled = false;
      }
      await this.refresh();
    });
    return [show, cancel];
  }
}
