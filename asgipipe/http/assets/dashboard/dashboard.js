/** The page: reads what is served here, and puts the parts together that the deployment has endpoints for. */

import { Api, Refusal } from "./api.js";
import { h } from "./elements.js";
import { ParameterForm, Unreadable } from "./form.js";
import { Graph } from "./graph.js";
import { Metrics } from "./metrics.js";
import { Records } from "./records.js";
import { copier, RunView } from "./run.js";
import { snippet } from "./snippets.js";

const THEME = "asgipipe-theme";
const PAUSE = 200; // milliseconds after typing until the snippets follow
const MODES = {
  stream: ["Streamed", "watch it as it goes on"],
  async: ["As a job", "goes on without this page"],
  sync: ["Waited for", "one request, one answer"],
};
const LANGUAGES = { curl: "curl", python: "Python", javascript: "JavaScript" };

const find = (id) => document.getElementById(id);

// The key

const api = new Api((again) => {
  const dialog = find("ask");
  const [form, input, error] = [find("ask-form"), find("ask-key"), find("ask-error")];
  error.textContent = again ? "This key was refused." : "";
  input.value = "";
  dialog.showModal();
  return new Promise((resolve, reject) => {
    const given = (event) => {
      event.preventDefault();
      if (/^[\x21-\x7e]+$/.test(input.value.trim())) close(input.value.trim());
      else error.textContent = "A key is made of visible ASCII characters.";
    };
    const left = () => close("");
    const close = (key) => {
      form.removeEventListener("submit", given);
      dialog.removeEventListener("close", left);
      find("ask-cancel").removeEventListener("click", left);
      input.value = "";
      dialog.close();
      find("key").hidden = false;
      find("key").textContent = key ? "Forget the key" : "Give a key";
      if (key) resolve(key);
      else reject(new Error("A key is needed."));
    };
    form.addEventListener("submit", given);
    dialog.addEventListener("close", left);
    find("ask-cancel").addEventListener("click", left);
  });
});

// Light and dark

function chooseTheme(theme) {
  document.documentElement.dataset.theme = theme;
  find("theme").value = theme;
}

function remembered() {
  try {
    return localStorage.getItem(THEME) ?? "auto";
  } catch {
    return "auto"; // storage may be switched off
  }
}

function remember(theme) {
  try {
    localStorage.setItem(THEME, theme);
  } catch {
    // then it holds until the page is left
  }
}

// The form and what it starts

class RunForm {
  constructor(info, view) {
    this.view = view;
    this.keyed = info.deployment?.auth_enabled ?? api.hasKey;
    this.parameters = new ParameterForm(info.pipeline?.input_schema ?? {});
    this.name = h("input", { id: "run-name", type: "text", autocomplete: "off" });
    this.timeout = h("input", { id: "timeout", type: "text", inputmode: "decimal", autocomplete: "off" });
    this.problem = h("div", { role: "alert" });
    this.button = h("button", { type: "submit", class: "main", id: "start" }, "Run");
    this.form = h(
      "form",
      { novalidate: true, onsubmit: (event) => this.#submit(event), onkeydown: (event) => this.#key(event) },
      this.parameters.element, this.#modes(), this.#options(), this.problem,
      h("div", { class: "actions" }, this.button, h("span", { class: "muted" }, "or Ctrl + Enter")),
    );
    this.code = h("pre", { tabindex: "0", id: "code", "aria-label": "The request as code" });
    this.snippets = this.#snippets();
    this.element = h("section", { "aria-labelledby": "run-title", id: "run" }, h("h2", { id: "run-title" }, "Parameters"), this.form, this.snippets);
    for (const type of ["input", "click", "change"]) this.form.addEventListener(type, () => this.#later());
  }

  get mode() {
    return new FormData(this.form).get("mode") ?? "sync";
  }

  #modes() {
    const offered = Object.entries(MODES).filter(([mode]) => mode === "sync" || api.has("stream") || (mode === "async" && api.has("jobs")));
    const choices = offered.map(([mode, [name, text]], index) => h(
      "label", { class: "mode" },
      h("input", { type: "radio", name: "mode", value: mode, checked: index === 0 }),
      h("span", {}, h("b", {}, name), h("span", { class: "hint" }, text)),
    ));
    return h("fieldset", { class: "modes" }, h("legend", {}, "How it runs"), ...choices);
  }

  #options() {
    const field = (input, label, hint) => h(
      "div", { class: "field" },
      h("label", { for: input.id }, label), input, h("p", { class: "hint" }, hint),
    );
    return h(
      "details", {},
      h("summary", {}, "Name and time limit"),
      field(this.name, "Name of the run", "made from the pipeline's name and the time when it is empty"),
      field(this.timeout, "Time limit in seconds", "the deployment's own when it is empty"),
    );
  }

  /** The body of the request, as JSON; raises Unreadable. */
  #body(indent) {
    const body = { parameters: this.parameters.value() };
    if (this.name.value) body.run_name = this.name.value;
    const limit = this.timeout.value.trim();
    if (limit) body.timeout = Number.isFinite(Number(limit)) ? Number(limit) : limit;
    return JSON.stringify(body, null, indent);
  }

  async #submit(event) {
    event.preventDefault();
    if (this.view.busy) return;
    this.parameters.clear();
    this.problem.replaceChildren();
    try {
      await this.view.start(this.mode, this.#body());
    } catch (error) {
      const general = this.parameters.show(error);
      const listed = general.map((text) => h("li", {}, text));
      const refused = error instanceof Refusal || error instanceof Unreadable;
      this.problem.replaceChildren(h("p", { class: "error" }, refused ? error.message : `This did not work: ${error.message}`), h("ul", { class: "error" }, ...listed));
    }
  }

  #key(event) {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.form.requestSubmit();
  }

  #snippets() {
    const select = h("select", { "aria-label": "Language" }, ...Object.entries(LANGUAGES).map(([value, name]) => h("option", { value }, name)));
    this.language = select;
    select.addEventListener("change", () => this.#write());
    return h(
      "details", { ontoggle: () => this.#write() },
      h("summary", {}, "The same from a shell or a program"),
      h("div", { class: "bar" }, select, copier(() => this.code.textContent)),
      this.code,
    );
  }

  #later() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.#write(), PAUSE);
  }

  #write() {
    if (!this.snippets.open) return;
    try {
      this.code.textContent = snippet(this.language.value, api.url("invoke"), this.mode, this.#body(2), this.keyed);
    } catch (error) {
      this.code.textContent = error.message;
    }
  }

  fill(parameters) {
    this.parameters.set(parameters);
    this.#later();
    this.parameters.root.focus();
  }
}

// The page

function introduce(info) {
  const name = info.pipeline?.name ?? info.deployment?.name;
  if (name) {
    find("name").textContent = name;
    document.title = name;
  }
  const { name: deployment } = info.deployment ?? {};
  find("about").textContent = deployment && deployment !== name ? `deployment ${deployment}, ${info.status}` : info.status ?? "";
}

function about(info) {
  const graph = info.pipeline?.graph;
  const drawn = graph?.nodes?.length ? new Graph(graph) : null;
  const text = info.pipeline?.description;
  const element = h(
    "section", { "aria-labelledby": "steps-title", id: "about-it" },
    h("h2", { id: "steps-title" }, "What it does"),
    text && h("p", { class: "description" }, text),
    drawn ? drawn.element : h("p", { class: "muted" }, "Its steps are not known before it runs."),
  );
  return { drawn, element };
}

async function read() {
  if (!api.has("info")) return {};
  const info = await api.read(api.url("info"));
  return typeof info === "object" && info !== null ? info : {}; // an endpoint of the user's may be in its place
}

function links() {
  const known = { docs: "API documentation", redoc: "Reference", openapi: "OpenAPI" };
  const served = Object.entries(known).filter(([name]) => api.has(name));
  find("links").replaceChildren(...served.map(([name, text]) => h("a", { href: api.url(name) }, text)));
}

function build(info) {
  const { drawn, element } = about(info);
  const parts = []; // those that keep themselves up to date
  let form = null;
  const view = new RunView(api, drawn, () => {
    if (form) form.button.disabled = view.busy;
    for (const part of parts) void part.refresh();
  });
  if (api.has("jobs")) parts.push(new Records(api, "jobs", (job) => openJob(view, job)));
  if (api.has("runs")) parts.push(new Records(api, "runs", (run) => openRun(view, run)));
  if (api.has("invoke")) {
    form = new RunForm(info, view);
    view.onreuse = (parameters) => form.fill(parameters);
  }
  view.element.tabIndex = -1;
  if (api.has("metrics")) parts.push(new Metrics(api));
  const work = h("div", { class: "work" }, form?.element, view.element);
  find("main").replaceChildren(element, work, ...parts.map((part) => part.element));
}

async function openJob(view, job) {
  if (api.has("stream")) await view.follow(job);
  else view.show({ ...job, steps: [], outputs: job.result?.outputs });
}

async function openRun(view, run) {
  try {
    view.show(await api.read(api.url("runs", run.run_id)));
    view.element.focus();
  } catch (error) {
    view.message.textContent = error.message;
  }
}

async function start() {
  find("note").textContent = "Reading what is served here …";
  try {
    const info = await read();
    introduce(info);
    build(info);
    find("key").hidden = !info.deployment?.auth_enabled;
  } catch (error) {
    const again = h("button", { type: "button", onclick: start }, "Try again");
    find("main").replaceChildren(h("p", { id: "note", class: "error", role: "alert" }, error.message), again);
  }
}

chooseTheme(remembered());
find("theme").addEventListener("change", ({ target }) => {
  chooseTheme(target.value);
  remember(target.value);
});
find("key").addEventListener("click", () => location.reload()); // the key is in this page's memory, and nowhere else
links();
void start();
