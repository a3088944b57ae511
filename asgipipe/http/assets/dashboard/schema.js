/** What a JSON Schema says about a value, as far as a form needs it. */

/** Knows the definitions that `$ref` leads to. */
export class Schemas {
  constructor(root) {
    this.root = root;
  }

  /** The schema itself: references followed, members of `allOf` laid together. */
  resolve(schema) {
    let found = schema === true || !schema ? {} : schema;
    for (let depth = 0; found.$ref && depth < 32; depth += 1) {
      const { $ref, ...beside } = found;
      found = { ...this.#at($ref), ...beside };
    }
    if (Array.isArray(found.allOf)) {
      const { allOf, ...beside } = found;
      found = Object.assign({}, ...allOf.map((part) => this.resolve(part)), beside);
    }
    return found;
  }

  #at(reference) {
    const steps = reference.replace(/^#\/?/, "").split("/").filter(Boolean);
    const names = steps.map((step) => decodeURIComponent(step).replaceAll("~1", "/").replaceAll("~0", "~"));
    return names.reduce((place, name) => place?.[name], this.root) ?? {};
  }

  /** The alternatives of a union, or null for what is none. */
  choices(schema) {
    const listed = schema.anyOf ?? schema.oneOf;
    if (Array.isArray(listed)) return listed.map((choice) => this.resolve(choice));
    if (Array.isArray(schema.type)) return schema.type.map((type) => ({ ...schema, type, title: undefined }));
    return null;
  }

  /** Which kind of field shows a resolved schema. */
  kind(schema) {
    if ("const" in schema) return "const";
    if (Array.isArray(schema.enum)) return "enum";
    if (this.choices(schema)) return "union";
    if (schema.type === "object") return schema.properties || mapped(schema) ? "object" : "json";
    if (schema.type === "array") return schema.items || schema.prefixItems ? "array" : "json";
    return ["string", "integer", "number", "boolean", "null"].includes(schema.type) ? schema.type : "json";
  }

  /** The value a field begins with; undefined where there is none. */
  initial(schema) {
    const own = this.resolve(schema);
    if ("default" in own) return own.default;
    if ("const" in own) return own.const;
    return undefined;
  }

  /** True when `value` may be meant by this alternative of a union. */
  fits(schema, value) {
    const kind = this.kind(schema);
    if (kind === "const") return same(schema.const, value);
    if (kind === "enum") return schema.enum.some((each) => same(each, value));
    if (kind === "union") return this.choices(schema).some((choice) => this.fits(choice, value));
    if (kind === "object" || (kind === "json" && schema.type === "object")) return isObject(value) && this.#members(schema, value);
    if (kind === "array" || (kind === "json" && schema.type === "array")) return Array.isArray(value);
    if (kind === "integer") return Number.isInteger(value) || isExact(value);
    if (kind === "null") return value === null;
    return kind === "json" || typeof value === kind;
  }

  #members(schema, value) {
    return Object.entries(schema.properties ?? {}).every(([name, member]) => {
      if (!(name in value)) return !schema.required?.includes(name);
      return this.fits(this.resolve(member), value[name]);
    });
  }

  /** What to call an alternative of a union. */
  label(schema) {
    const kind = this.kind(schema);
    if (schema.title) return schema.title;
    if (kind === "const") return JSON.stringify(schema.const);
    if (kind === "null") return "none";
    return { json: "JSON", string: "text", boolean: "yes or no", array: "list", enum: "choice" }[kind] ?? kind;
  }
}

/** True for an object that has members beyond those that are named. */
export function mapped(schema) {
  const more = schema.additionalProperties;
  return more === true || isObject(more) || isObject(schema.patternProperties);
}

/** True for a number that is kept as text, because it is too large for JavaScript's own. */
export function isExact(value) {
  return JSON.isRawJSON?.(value) ?? false;
}

export function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value) && !isExact(value);
}

export function same(one, other) {
  return JSON.stringify(one) === JSON.stringify(other);
}

/** The limits in words, for the hint below a field. */
export function limits(schema) {
  const { minimum: low, maximum: high, exclusiveMinimum: above, exclusiveMaximum: below } = schema;
  const words = [];
  if (low !== undefined && high !== undefined) words.push(`${low} to ${high}`);
  else if (low !== undefined) words.push(`at least ${low}`);
  else if (high !== undefined) words.push(`at most ${high}`);
  if (above !== undefined) words.push(`more than ${above}`);
  if (below !== undefined) words.push(`less than ${below}`);
  if (schema.multipleOf !== undefined) words.push(`a multiple of ${schema.multipleOf}`);
  words.push(...counted(schema.minLength, schema.maxLength, "characters"));
  words.push(...counted(schema.minItems, schema.maxItems, "items"));
  if (schema.pattern) words.push(`like ${schema.pattern}`);
  if (schema.format) words.push(schema.format);
  return words.join(", ");
}

function counted(least, most, what) {
  if (least !== undefined && least === most) return [`${least} ${what}`];
  if (least !== undefined && most !== undefined) return [`${least} to ${most} ${what}`];
  if (least) return [`at least ${least} ${what}`];
  return most === undefined ? [] : [`at most ${most} ${what}`];
}
