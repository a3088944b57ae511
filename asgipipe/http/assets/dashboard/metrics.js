/** The deployment's counts, as small plots of the last minutes. */

import { duration, h, svg, whileSeen } from "./elements.js";

const PERIOD = 2; // seconds between two looks
const SAMPLES = 120;
const [WIDTH, HEIGHT] = [240, 56];

const PLOTS = [
  { title: "Runs per second", lines: { runs: (now, past) => rate("total_executions", now, past) }, text: perSecond },
  { title: "Errors per second", lines: { failed: (now, past) => rate("failed_executions", now, past) }, text: perSecond },
  {
    title: "Latency",
    lines: {
      p50: (now) => now.execution_time_quantiles?.["0.5"],
      p95: (now) => now.execution_time_quantiles?.["0.95"],
      p99: (now) => now.execution_time_quantiles?.["0.99"],
    },
    text: duration,
  },
  { title: "In flight", lines: { "in flight": (now) => now.in_flight }, text: String },
];

export class Metrics {
  #api;
  #samples = [];

  constructor(api) {
    this.#api = api;
    this.plots = PLOTS.map((plot) => new Plot(plot));
    this.totals = h("p", { class: "muted" });
    this.element = h(
      "section",
      { "aria-labelledby": "metrics-title", id: "metrics" },
      h("h2", { id: "metrics-title" }, "Metrics"),
      h("div", { class: "plots" }, ...this.plots.map((plot) => plot.element)),
      this.totals,
    );
    this.refresh = whileSeen(PERIOD, () => this.#load());
  }

  async #load() {
    try {
      const counted = await this.#api.read(this.#api.url("metrics"));
      this.#samples = [...this.#samples, { ...counted, at: performance.now() / 1000 }].slice(-SAMPLES);
      for (const plot of this.plots) plot.show(this.#samples);
      const { total_executions: total, successful_executions: good, failed_executions: bad, canceled_executions: left } = counted;
      this.totals.textContent = `Runs in all: ${total}, of these ${good} completed, ${bad} failed, ${left} canceled.`;
    } catch (error) {
      this.totals.textContent = `The metrics are not up to date: ${error.message}`;
    }
  }
}

class Plot {
  constructor({ title, lines, text }) {
    this.lines = lines;
    this.text = text;
    this.title = title;
    this.values = h("dl", {});
    this.picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" });
    this.top = h("span", { class: "muted" });
    this.element = h("div", { class: "plot" }, h("div", { class: "bar" }, h("h3", {}, title), this.top), this.picture, this.values);
  }

  show(samples) {
    const series = Object.entries(this.lines).map(([name, read]) => {
      const values = samples.map((sample, index) => read(sample, samples[index - 1]) ?? null);
      return { name, values };
    });
    const most = Math.max(...series.flatMap(({ values }) => values.filter((value) => value !== null)), 0);
    this.top.textContent = most ? `up to ${this.text(most)}` : "";
    this.picture.replaceChildren(...series.map(({ values }, index) =>
      svg("path", { class: `line line-${index}`, d: path(values, most || 1), "vector-effect": "non-scaling-stroke" })));
    const words = series.flatMap(({ name, values }, index) => {
      const last = values.at(-1);
      return [h("dt", { class: `line-${index}` }, name), h("dd", {}, last === null ? "–" : this.text(last))];
    });
    this.values.replaceChildren(...words);
  }
}

/** The newest sample is at the right edge; where a value is missing the line has a gap. */
function path(values, most) {
  const first = SAMPLES - values.length;
  let pen = "M";
  return values.map((value, index) => {
    if (value === null) {
      pen = "M";
      return "";
    }
    const x = ((first + index) / (SAMPLES - 1)) * WIDTH;
    const y = HEIGHT - 2 - (value / most) * (HEIGHT - 4);
    const point = `${pen}${x.toFixed(1)} ${y.toFixed(1)}`;
    pen = "L";
    return point;
  }).join("");
}

function rate(name, now, past) {
  return past ? Math.max(0, now[name] - past[name]) / (now.at - past.at) : null;
}

function perSecond(value) {
  return `${value < 10 ? value.toFixed(1) : Math.round(value)}/s`;
}
