/** One run, watched while it goes on, or looked at when it is over. */

import { clock, duration, h, state } from "./elements.js";
import { Refusal } from "./api.js";
import { Timeline } from "./timeline.js";
import { tree } from "./tree.js";

const MOST_TEXT = 200_000; // characters of output that are kept
const MOST_LINES = 200; // of the log
const LONGEST_JSON = 1_000_000; // characters of a result shown as JSON
const PAUSE = 50; // milliseconds in which pieces of output are gathered
const ENDS = { pipeline_completed: "completed", pipeline_failed: "failed", pipeline_canceled: "canceled" };

export class RunView {
  #api;
  #graph;
  #control = null; // of the requests that belong to what is shown
  #jobId = null;
  #held = false; // whether looking away would end the run, or lose its answer
  #pieces = [];
  #timer = 0;

  /** @param {import("./api.js").Api} api @param {import("./graph.js").Graph | null} graph @param {() => void} changed */
  constructor(api, graph, changed) {
    this.#api = api;
    this.#graph = graph;
    this.changed = changed;
    this.timeline = new Timeline();
    this.status = h("p", { id: "status", role: "status" }, "Nothing was run yet.");
    this.progress = h("progress", { max: "1", "aria-label": "Progress", hidden: true });
    this.message = h("p", { class: "muted" });
    this.output = h("pre", { id: "output", tabindex: "0", role: "log", "aria-label": "Output as it comes", "aria-live": "off", hidden: true });
    this.lines = h("ol", { class: "lines" });
    this.log = h("details", { hidden: true }, h("summary", {}, "Log"), this.lines);
    this.stop = h("button", { type: "button", id: "cancel", hidden: true, onclick: () => this.#stop() }, "Cancel");
    this.result = h("div", { id: "result" });
    this.element = h(
      "section",
      { "aria-labelledby": "live-title", id: "live" },
      h("div", { class: "bar" }, h("h2", { id: "live-title" }, "Run"), this.stop),
      this.status, this.progress, this.message, this.timeline.element, this.output, this.log, this.result,
    );
  }

  /** True while nothing else can be shown. */
  get busy() {
    return this.#control !== null && this.#held;
  }

  /** Run the pipeline; raises Refusal when it was not started. `mode` is sync, async or stream. */
  async start(mode, body) {
    const signal = this.#begin("Starting", true);
    this.progress.hidden = false;
    try {
      if (mode === "sync") {
        this.#say("running", "Waiting for the answer");
        const envelope = await this.#api.invoke(body, signal);
        this.#finish(envelope.success ? "completed" : "failed", envelope);
      } else if (mode === "stream") await this.#watch(this.#api.stream(body, signal));
      else {
        this.#jobId = await this.#api.submit(body);
        this.#held = false;
        this.changed();
        this.#say("pending", "Accepted as a job");
        this.stop.hidden = !this.#api.has("jobs");
        if (this.#api.has("stream")) await this.#watch(this.#api.follow(this.#jobId, signal));
        else this.#done();
      }
    } catch (error) {
      this.#fail(error, signal);
      if (error instanceof Refusal) throw error;
    }
  }

  /** Watch a job, from its first event on. */
  async follow(job) {
    if (this.#refuses()) return;
    const signal = this.#begin("Reading the events", false);
    this.#jobId = job.job_id;
    this.stop.hidden = !["pending", "running"].includes(job.status);
    this.element.focus();
    try {
      await this.#watch(this.#api.follow(job.job_id, signal));
    } catch (error) {
      this.#fail(error, signal);
    }
  }

  /** Show a recorded run, as GET /runs/{run_id} has it. */
  show(run) {
    if (this.#refuses()) return;
    this.#begin("", false);
    this.timeline.show(run.steps);
    for (const step of run.steps) this.#graph?.begin(step.name);
    for (const step of run.steps) this.#graph?.end(step.name, step.status);
    for (const line of run.logs ?? []) this.#line(line.timestamp, `${line.level} ${line.message}`);
    const { outputs, error, execution_time } = run;
    this.#finish(run.status, { outputs, error, execution_time, metadata: { run_name: run.run_name, parameters_used: run.parameters } });
  }

  #refuses() {
    if (!this.busy) return false;
    this.message.textContent = "Wait for this run, or cancel it, before another one is shown.";
    return true;
  }

  #begin(text, held) {
    this.#control?.abort();
    this.#held = held;
    const control = new AbortController();
    this.#control = control;
    this.#jobId = null;
    this.#pieces = [];
    this.#graph?.reset();
    this.timeline.reset();
    this.#say("running", text);
    this.progress.hidden = true;
    this.progress.removeAttribute("value");
    this.message.textContent = "";
    this.output.replaceChildren();
    this.output.hidden = true;
    this.lines.replaceChildren();
    this.log.hidden = true;
    this.result.replaceChildren();
    this.stop.hidden = false;
    this.stop.disabled = false;
    this.element.setAttribute("aria-busy", "true");
    this.changed();
    return control.signal;
  }

  async #watch(events) {
    for await (const event of events) {
      this.#jobId = event.job_id;
      this.#apply(event);
    }
  }

  #apply({ event_type: type, step_name: step, timestamp, data }) {
    const moment = Date.parse(timestamp);
    if (type in ENDS) {
      this.#close(ENDS[type], moment);
      this.#finish(ENDS[type], data);
    } else if (type === "pipeline_started") {
      if (data.attempt > 1) this.#again(data.attempt, moment);
      this.progress.hidden = false;
      this.#say("running", data.run_name ?? "");
      this.changed();
    } else if (type === "step_started") {
      this.#graph?.begin(step, data.attempt);
      this.timeline.begin(step, moment, data.attempt);
    } else if (type === "step_completed" || type === "step_failed") {
      const result = type === "step_failed" ? "failed" : "completed";
      this.#graph?.end(step, result);
      this.timeline.end(step, moment, result, data.error);
    } else if (type === "progress") this.#advance(data);
    else if (type === "output_delta") this.#write(data.delta);
    else if (type === "log") this.#line(timestamp, `${data.level ?? ""} ${data.message ?? ""}`);
    else if (type === "retrying") {
      if (step) this.#graph?.end(step, "failed");
      this.#line(timestamp, `another attempt of ${step ?? "the run"}: ${data.error ?? ""}`);
    }
  }

  /** The job is run again, because its worker was lost or it failed; steps whose results are known are not. */
  #again(attempt, moment) {
    this.#close("failed", moment);
    if (!this.output.hidden || this.#pieces.length) this.#write(`\n— attempt ${attempt} —\n`);
    this.#line(moment, `attempt ${attempt} of this job`);
  }

  #close(name, moment) {
    this.#graph?.close(name);
    this.timeline.close(moment, name);
  }

  #advance({ fraction, message, step_name: step }) {
    if (typeof fraction === "number") this.progress.value = fraction;
    const share = typeof fraction === "number" ? `${Math.round(fraction * 100)} %` : "";
    this.message.textContent = [step, share, message].filter(Boolean).join(" · ");
  }

  #write(delta) {
    this.#pieces.push(typeof delta === "string" ? delta : `${JSON.stringify(delta)}\n`);
    this.#timer ||= setTimeout(() => { this.#timer = 0; this.#flush(); }, PAUSE);
  }

  #flush() {
    if (!this.#pieces.length) return;
    const { output } = this;
    const atEnd = output.scrollTop + output.clientHeight >= output.scrollHeight - 4;
    let text = this.#pieces.join("");
    this.#pieces = [];
    const kept = output.firstChild ?? output.appendChild(document.createTextNode(""));
    if (kept.length + text.length > MOST_TEXT) {
      text = `…${(kept.data + text).slice(-MOST_TEXT / 2)}`;
      kept.data = "";
    }
    kept.appendData(text);
    output.hidden = false;
    if (atEnd) output.scrollTop = output.scrollHeight;
  }

  #line(timestamp, text) {
    this.log.hidden = false;
    this.lines.append(h("li", {}, h("time", {}, clock(timestamp)), ` ${text}`));
    while (this.lines.childElementCount > MOST_LINES) this.lines.firstElementChild.remove();
  }

  #say(name, text) {
    this.status.replaceChildren(state(name), text ? ` · ${text}` : "");
  }

  #finish(name, envelope) {
    this.#flush();
    const { outputs, error, execution_time: time, metadata } = envelope ?? {};
    this.#done();
    this.message.textContent = "";
    this.#say(name, [duration(time), metadata?.run_name].filter(Boolean).join(" · "));
    if (error) this.result.append(h("p", { class: "error" }, error));
    if (outputs !== null && outputs !== undefined) this.result.append(...shown("Result", outputs));
    const used = metadata?.parameters_used;
    if (used) {
      const again = h("button", { type: "button", class: "plain", onclick: () => this.onreuse?.(used) }, "Put these into the form");
      this.result.append(h("details", {}, h("summary", {}, "Parameters used"), tree(null, used), again));
    }
  }

  #done() {
    this.#control = null;
    this.stop.hidden = true;
    this.progress.hidden = true;
    this.element.removeAttribute("aria-busy");
    this.changed();
  }

  /** What came instead of a result; nothing when something else is shown by now. */
  #fail(error, signal) {
    if (signal !== this.#control?.signal) return;
    const left = signal.aborted;
    this.#close(left ? "canceled" : "failed", Date.now());
    this.#flush();
    this.#done();
    this.#say(left ? "canceled" : "failed", left ? "this page waits for it no more" : error.message);
  }

  async #stop() {
    const control = this.#control;
    if (!this.#jobId || !this.#api.has("jobs")) {
      control?.abort();
      return;
    }
    this.stop.disabled = true;
    this.message.textContent = "Cancelling …";
    try {
      await this.#api.cancel(this.#jobId);
    } catch (error) {
      this.message.textContent = error.message;
      this.stop.disabled = false;
    }
  }
}

/** A value as a tree and as JSON, with a switch between them. */
function shown(title, value) {
  const text = JSON.stringify(value, null, 2);
  const cut = text.length > LONGEST_JSON ? `${text.slice(0, LONGEST_JSON)}\n… cut; the copy is whole` : text;
  const place = h("div", { class: "value-of" }, tree(null, value));
  const button = h("button", { type: "button", class: "plain", "aria-pressed": "false" }, "As JSON");
  button.addEventListener("click", () => {
    const asJson = button.getAttribute("aria-pressed") === "false";
    button.setAttribute("aria-pressed", String(asJson));
    place.replaceChildren(asJson ? h("pre", { tabindex: "0", "aria-label": `${title} as JSON` }, cut) : tree(null, value));
  });
  return [h("div", { class: "bar" }, h("h3", {}, title), h("span", {}, button, copier(() => text))), place];
}

/** A button that puts a text into the clipboard. */
export function copier(text) {
  const button = h("button", { type: "button", class: "plain" }, "Copy");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text());
      button.textContent = "Copied";
    } catch {
      button.textContent = "Select it and copy"; // no clipboard without HTTPS
    }
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
  return button;
}
