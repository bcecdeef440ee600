/** Schemas of an OpenAPI description as lists of fields. */

import { el, prose } from "./dom.js";

const DEEPEST = 4;

/** A schema with its reference followed. */
export function resolved(schema, spec) {
  const name = schema?.$ref?.split("/").at(-1);
  return name ? spec.components.schemas[name] : (schema ?? {});
}

/** The schemas of which one applies, without null. */
function choices(schema, spec) {
  const here = resolved(schema, spec);
  return (here.anyOf ?? [here]).map((each) => resolved(each, spec)).filter((each) => each.type !== "null");
}

/** A type in few words: "whole number, 1 to 1,000, or null". */
function typeOf(schema, spec) {
  const here = resolved(schema, spec);
  const types = choices(here, spec).map((each) => {
    if (each.enum) return each.enum.map((value) => JSON.stringify(value)).join(", ");
    if (each.const !== undefined) return JSON.stringify(each.const);
    if (each.type === "array") return `list: ${typeOf(each.items, spec)}`;
    const name = { integer: "whole number", number: "number", string: "text", boolean: "true or false", object: "object" }[each.type] ?? "anything";
    return name + rangeOf(each);
  });
  const isOptional = here.anyOf?.some((each) => each.type === "null");
  return [...new Set(types), ...(isOptional ? ["null"] : [])].join(" or ");
}

function rangeOf({ minimum, maximum }) {
  const shown = (value) => value.toLocaleString("en");
  if (minimum !== undefined && maximum !== undefined && maximum < 1e9) return `, ${shown(minimum)} to ${shown(maximum)}`;
  return minimum !== undefined ? `, ${shown(minimum)} or more` : "";
}

/** A list of fields, [{name, schema, required}]; those of objects below theirs. `isRequest`: some may be left out. */
export function fieldList(fields, spec, isRequest, depth = 0) {
  return el("ul", { class: "fields" }, fields.map((field) => fieldItem(field, spec, isRequest, depth)));
}

function fieldItem({ name, schema, required }, spec, isRequest, depth) {
  const here = resolved(schema, spec);
  const hasDefault = here.default !== undefined && here.default !== null;
  const need = isRequest && required ? " · required" : isRequest && hasDefault ? ` · ${JSON.stringify(here.default)} if absent` : "";
  const inner = depth < DEEPEST ? fieldsOf(here, spec) : [];
  return el(
    "li",
    {},
    el("code", {}, name),
    el("span", { class: "type" }, `${typeOf(here, spec)}${need}`),
    (schema.description || here.description) && el("p", {}, prose(schema.description ?? here.description)),
    inner.length > 0 && fieldList(inner, spec, isRequest, depth + 1),
  );
}

/** The fields of an object, or of the objects of a list. */
export function fieldsOf(schema, spec) {
  const found = [];
  for (const choice of choices(schema, spec)) {
    const here = choice.type === "array" ? choices(choice.items, spec)[0] : choice;
    for (const [name, field] of Object.entries(here?.properties ?? {})) {
      found.push({ name, schema: field, required: here.required?.includes(name) ?? false });
    }
  }
  const names = new Set();
  return found.filter(({ name }) => !names.has(name) && names.add(name));
}
