/**
 * A form made from the JSON Schema of the parameters.
 *
 * The deployment checks what is sent, not the form: its messages come back with the place they belong to.
 *
 * @typedef {object} Field
 * @property {Element} element
 * @property {() => unknown} value what is sent; undefined leaves it out
 * @property {(segment: string | number) => Field | null} child the field below, by a segment of a message's `loc`
 * @property {(message: string) => void} say show a message; an empty one takes it away
 * @property {() => void} focus
 */

import { h, unique } from "./elements.js";
import { Schemas, isExact, isObject, limits, mapped, same } from "./schema.js";

const MOST_ITEMS = 500; // of one list or object; more are edited as JSON
const SHORT = 100; // characters up to which a text is one line

/** What was typed is no JSON: found before anything is sent. */
export class Unreadable extends Error {
  constructor(field) {
    super("This is not JSON.");
    this.field = field;
  }
}

export class ParameterForm {
  #asJson = false;

  /** @param {object} schema of all parameters; `{}` where it is not known */
  constructor(schema) {
    this.schemas = new Schemas(schema);
    this.schema = this.schemas.resolve(schema);
    this.fields = h("div", { class: "fields" });
    this.toggle = h("button", { type: "button", class: "plain", onclick: () => this.#switch() }, "Edit as JSON");
    this.element = h("div", {}, this.fields, this.toggle);
    this.toggle.hidden = this.schemas.kind(this.schema) === "json";
    this.set(this.schemas.initial(this.schema) ?? {});
  }

  /** The parameters; raises Unreadable. */
  value() {
    return this.root.value() ?? {};
  }

  set(value) {
    this.root = this.#asJson ? jsonField(this, {}, { label: "Parameters", value }) : this.#root(value);
    this.fields.replaceChildren(this.root.element);
  }

  #root(value) {
    if (this.schemas.kind(this.schema) !== "object") return this.make(this.schema, { label: "Parameters", value });
    const root = objectField(this, this.schema, { label: "Parameters", value });
    root.element.classList.add("root");
    return root;
  }

  #switch() {
    let value;
    try {
      value = this.value();
    } catch (error) {
      this.show(error);
      return;
    }
    this.#asJson = !this.#asJson;
    this.toggle.textContent = this.#asJson ? "Edit as a form" : "Edit as JSON";
    this.set(value);
    this.root.focus();
  }

  /** Show messages where they belong and return those that belong to no field. */
  show(error) {
    for (const message of this.fields.querySelectorAll(".error")) message.textContent = "";
    for (const control of this.fields.querySelectorAll("[aria-invalid]")) control.removeAttribute("aria-invalid");
    if (error instanceof Unreadable) error.field.say(error.message);
    const found = (error.errors ?? []).map(({ loc, msg }) => ({ ...this.#reach(loc), msg }));
    const messages = new Map();
    for (const { field, tag, msg } of found) {
      if (field) messages.set(field, [...(messages.get(field) ?? []), tag ? `${tag}: ${msg}` : msg]);
    }
    for (const [field, texts] of messages) field.say(texts.join(" · "));
    const first = this.fields.querySelector("[aria-invalid=true]");
    first?.closest("details")?.setAttribute("open", "");
    (first?.matches("fieldset") ? first.querySelector("input, select, textarea, button") : first)?.focus();
    return found.filter(({ field }) => !field).map(({ tag, msg }) => (tag ? `${tag}: ${msg}` : msg));
  }

  clear() {
    this.show({});
  }

  /** The field of a message. A union's alternatives are segments too; the one that is shown is passed through. */
  #reach([first, ...loc]) {
    if (first !== "parameters") return { field: null, tag: String(first ?? "") };
    let field = this.root;
    let beyond = [];
    for (const segment of loc) {
      const below = field.child(segment);
      beyond = below ? [] : [...beyond, segment];
      field = below ?? field;
    }
    if (field === this.root && this.schemas.kind(this.schema) === "object" && !this.#asJson) {
      return { field: null, tag: beyond.join(".") };
    }
    return { field, tag: beyond.join(" ") };
  }

  /** @returns {Field} */
  make(schema, options) {
    const own = this.schemas.resolve(schema);
    const value = options.value === undefined ? this.schemas.initial(own) : options.value;
    const make = MAKERS[this.schemas.kind(own)] ?? jsonField;
    return make(this, own, { ...options, value });
  }
}

// What fields have in common

function describe(schema, own = "") {
  return [schema.description, limits(schema), own].filter(Boolean).join(" · ");
}

/** A field with one control. `read` returns its value. */
function simple(control, schema, { label, required, hint }, read) {
  const id = unique("field");
  const error = h("p", { class: "error", id: `${id}-error` });
  const text = describe(schema, hint);
  const mark = required && h("span", { class: "muted" }, " required");
  control.id = id;
  control.setAttribute("aria-describedby", text ? `${id}-hint ${id}-error` : `${id}-error`);
  if (required) control.setAttribute("aria-required", "true");
  const isBox = control.type === "checkbox";
  const caption = h("label", { for: id }, label, mark);
  const element = h(
    "div",
    { class: isBox ? "field box" : "field" },
    ...(isBox ? [control, caption] : [caption, control]),
    text && h("p", { class: "hint", id: `${id}-hint` }, text),
    error,
  );
  return { element, value: read, child: () => null, say: saying(control, error), focus: () => control.focus() };
}

function saying(control, error) {
  return (message) => {
    error.textContent = message;
    if (message) control.setAttribute("aria-invalid", "true");
    else control.removeAttribute("aria-invalid");
  };
}

/** A field that holds others: `children` are elements below its legend. */
function group(schema, { label, required }, children, behaviour) {
  const id = unique("group");
  const text = describe(schema);
  const error = h("p", { class: "error", id: `${id}-error` });
  const element = h(
    "fieldset",
    { class: "field", "aria-describedby": text ? `${id}-hint ${id}-error` : `${id}-error` },
    h("legend", {}, label, required && h("span", { class: "muted" }, " required")),
    text && h("p", { class: "hint", id: `${id}-hint` }, text),
    error,
    ...children,
  );
  const focus = () => element.querySelector("input, select, textarea, button")?.focus();
  return { element, say: saying(element, error), focus, ...behaviour };
}


// One maker for each kind of schema

function stringField(form, schema, options) {
  const types = { date: "date", email: "email", uri: "url", password: "password" };
  const type = schema.writeOnly ? "password" : types[schema.format];
  const value = options.value ?? "";
  const long = !type && !schema.format && !schema.pattern && !(schema.maxLength <= SHORT);
  const control = long
    ? h("textarea", { rows: Math.min(8, String(value).split("\n").length) })
    : h("input", { type: type ?? "text", spellcheck: "false", autocomplete: "off" });
  control.value = value;
  return simple(control, schema, options, () => control.value);
}

function numberField(form, schema, options) {
  // A text, because a number input tells nothing of what it cannot read, and the deployment has the better words.
  const mode = schema.type === "integer" ? "numeric" : "decimal";
  const negative = (schema.minimum ?? schema.exclusiveMinimum ?? -1) < 0;
  const control = h("input", { type: "text", inputmode: negative ? "text" : mode, autocomplete: "off" });
  control.value = isExact(options.value) ? options.value.rawJSON : options.value ?? "";
  const hint = schema.type === "integer" ? "a whole number" : "a number";
  return simple(control, schema, { ...options, hint }, () => numeral(control.value.trim()));
}

function numeral(text) {
  if (text === "") return undefined;
  if (!/^-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?$/.test(text)) return text; // which is refused, in words
  // Integers beyond 2^53 go as they were typed, where the browser can.
  const exact = Number.isSafeInteger(Number(text)) || /[.eE]/.test(text) || !JSON.rawJSON;
  return exact ? Number(text) : JSON.rawJSON(text);
}

/** Reads whole numbers beyond 2^53 as they were typed, where the browser can. */
function exactly(name, value, { source } = {}) {
  if (typeof value !== "number" || Number.isSafeInteger(value) || !source || !JSON.rawJSON) return value;
  return /^-?\d+$/.test(source) ? JSON.rawJSON(source) : value;
}

function booleanField(form, schema, options) {
  const control = h("input", { type: "checkbox" });
  control.checked = options.value === true;
  return simple(control, schema, options, () => control.checked);
}

function enumField(form, schema, options) {
  const chosen = schema.enum.findIndex((each) => same(each, options.value));
  const text = (each) => (typeof each === "string" ? each : JSON.stringify(each));
  const choices = schema.enum.map((each, index) => h("option", { value: index }, text(each)));
  const none = chosen < 0 && h("option", { value: "" }, "choose …");
  const control = h("select", {}, none, ...choices);
  control.value = chosen < 0 ? "" : String(chosen);
  return simple(control, schema, options, () => (control.value === "" ? undefined : schema.enum[Number(control.value)]));
}

function constField(form, schema, options) {
  const control = h("input", { type: "text", readonly: true });
  control.value = typeof schema.const === "string" ? schema.const : JSON.stringify(schema.const);
  return simple(control, schema, { ...options, hint: "always this" }, () => schema.const);
}

function nullField(form, schema, options) {
  const control = h("input", { type: "text", readonly: true });
  control.value = "none";
  return simple(control, schema, options, () => null);
}

function jsonField(form, schema, options) {
  const text = options.value === undefined ? "" : JSON.stringify(options.value, null, 2);
  const rows = Math.min(20, Math.max(2, text.split("\n").length));
  const control = h("textarea", { rows, spellcheck: "false", class: "code" });
  control.value = text;
  const field = simple(control, schema, { ...options, hint: "as JSON" }, () => {
    if (control.value.trim() === "") return undefined;
    try {
      return JSON.parse(control.value, exactly);
    } catch {
      throw new Unreadable(field);
    }
  });
  return field;
}

function objectField(form, schema, options) {
  const given = isObject(options.value) ? options.value : {};
  const members = new Map();
  for (const [name, member] of Object.entries(schema.properties ?? {})) {
    const own = form.schemas.resolve(member);
    const required = schema.required?.includes(name) ?? false;
    const wanted = { label: member.title ?? name, value: given[name], required };
    const known = required || name in given || form.schemas.initial(own) !== undefined;
    members.set(name, known ? form.make(member, wanted) : optionalField(form, member, wanted));
  }
  const others = Object.entries(given).filter(([name]) => !members.has(name));
  const further = mapped(schema) ? entries(form, schema, others) : null;
  const children = [...members.values()].map((field) => field.element);
  if (!children.length && !further) children.push(h("p", { class: "muted" }, "There is nothing to fill in."));
  const value = () => {
    const named = [...members].map(([name, field]) => [name, field.value()]).filter(([, each]) => each !== undefined);
    return Object.fromEntries([...named, ...(further?.value() ?? [])]);
  };
  const child = (name) => members.get(name) ?? further?.child(name) ?? null;
  return group(schema, options, further ? [...children, further.element] : children, { value, child });
}

/** The members of an object that have no name of their own. */
function entries(form, schema, given) {
  const patterns = Object.values(schema.patternProperties ?? {});
  const member = isObject(schema.additionalProperties) ? schema.additionalProperties : patterns[0] ?? {};
  const rows = new Map();
  const list = h("div", { class: "items" });
  const add = (name = "", value = undefined) => {
    const key = h("input", { type: "text", "aria-label": "Name", class: "name", spellcheck: "false" });
    key.value = name;
    const field = form.make(member, { label: "Value", value });
    const row = item([key, field.element], () => rows.delete(key), "Take this entry away");
    rows.set(key, field);
    list.append(row);
    return key;
  };
  const button = h("button", { type: "button", class: "plain", onclick: () => rows.size < MOST_ITEMS && add().focus() }, "Add an entry");
  for (const [name, value] of given.slice(0, MOST_ITEMS)) add(name, value);
  const value = () => [...rows].map(([key, field]) => [key.value, field.value()]).filter(([, each]) => each !== undefined);
  const child = (name) => [...rows].find(([key]) => key.value === String(name))?.[1] ?? null;
  return { element: h("div", {}, list, button), value, child };
}

function arrayField(form, schema, options) {
  const given = Array.isArray(options.value) ? options.value.slice(0, MOST_ITEMS) : [];
  const fixed = schema.prefixItems ?? [];
  const fields = [];
  const list = h("div", { class: "items" });
  const add = (value) => {
    const position = fields.length;
    const member = fixed[position] ?? schema.items;
    const own = form.schemas.resolve(member);
    const field = form.make(member, { label: own.title ?? "Item", value, required: position < fixed.length });
    const leave = () => fields.splice(fields.indexOf(field), 1);
    list.append(position < fixed.length ? field.element : item([field.element], leave, "Take this item away"));
    fields.push(field);
    return field;
  };
  const least = Math.max(fixed.length, given.length, Math.min(schema.minItems ?? 0, MOST_ITEMS));
  for (let position = 0; position < least; position += 1) add(given[position]);
  const most = Math.min(schema.maxItems ?? MOST_ITEMS, MOST_ITEMS);
  const grows = isObject(schema.items) && most > fixed.length;
  const button = h("button", { type: "button", class: "plain", onclick: () => fields.length < most && add().focus() }, "Add an item");
  const value = () => fields.map((field) => field.value() ?? null);
  return group(schema, options, grows ? [list, button] : [list], { value, child: (index) => fields[index] ?? null });
}

function item(children, leave, label) {
  const row = h("div", { class: "item" }, h("div", {}, ...children));
  const away = () => {
    leave();
    const next = row.nextElementSibling ?? row.parentElement.nextElementSibling;
    row.remove();
    (next?.matches("button") ? next : next?.querySelector("input, select, textarea"))?.focus();
  };
  row.append(h("button", { type: "button", class: "plain away", "aria-label": label, title: label, onclick: away }, "×"));
  return row;
}

function unionField(form, schema, options) {
  const choices = form.schemas.choices(schema);
  const fitting = choices.findIndex((choice) => options.value !== undefined && form.schemas.fits(choice, options.value));
  const made = new Map();
  const place = h("div", { class: "choice" });
  const names = choices.map((choice) => form.schemas.label(choice));
  const select = h("select", { "aria-label": `${options.label}: which kind` });
  select.append(...names.map((name, index) => h("option", { value: index }, name)));
  select.value = String(Math.max(fitting, 0));
  const current = () => {
    const index = Number(select.value);
    if (!made.has(index)) {
      const value = index === fitting ? options.value : undefined;
      made.set(index, form.make(choices[index], { label: names[index], value }));
    }
    return made.get(index);
  };
  const show = () => place.replaceChildren(form.schemas.kind(choices[Number(select.value)]) === "null" ? "" : current().element);
  select.addEventListener("change", show);
  show();
  const value = () => current().value();
  return group(schema, options, [select, place], { value, child: (segment) => current().child(segment) });
}

/** A member that may be left out and has no default to be shown. */
function optionalField(form, schema, options) {
  let field = null;
  const place = h("div", {});
  const button = h("button", { type: "button", class: "plain", "aria-pressed": "false" }, `Give ${options.label}`);
  button.addEventListener("click", () => {
    field = field ? null : form.make(schema, options);
    place.replaceChildren(...(field ? [field.element] : []));
    button.textContent = field ? `Leave ${options.label} out` : `Give ${options.label}`;
    button.setAttribute("aria-pressed", String(field !== null));
    field?.focus();
  });
  const error = h("p", { class: "error" });
  const say = (message) => (field ? field.say(message) : saying(button, error)(message));
  return {
    element: h("div", { class: "field" }, button, error, place),
    value: () => field?.value(),
    child: (segment) => field?.child(segment) ?? null,
    say,
    focus: () => (field ?? button).focus(),
  };
}

const MAKERS = {
  string: stringField,
  integer: numberField,
  number: numberField,
  boolean: booleanField,
  enum: enumField,
  const: constField,
  null: nullField,
  json: jsonField,
  object: objectField,
  array: arrayField,
  union: unionField,
};
