/** The description of the API: what each route takes and gives, and a form to try it at this very service. */

import * as api from "./api.js";
import { toClipboard } from "./copy.js";
import { byId, el, prose, shown } from "./dom.js";
import { cut } from "./format.js";
import { fieldList, fieldsOf, resolved } from "./schema.js";

const MOST = 50_000; // characters of an answer that are shown
const BODY = { query: "tree data structures", k: 3, snippet: 200 };
const VALUES = { q: "tree data structures", k: 3, row: 0, fields: "rank,title,score" }; // of parameters

let spec = null;
let known = null; // an index to try

async function open() {
  spec = await (await fetch(new URL("openapi.json", document.baseURI))).json();
  known = await api.indexes().then(({ default: first, indexes }) => first ?? indexes[0]?.name ?? "", () => "");
  byId("about").replaceChildren(...paragraphs(spec.info.description));
  const groups = new Map();
  for (const [path, operations] of Object.entries(spec.paths)) {
    for (const [method, operation] of Object.entries(operations)) {
      const tag = operation.tags?.[0] ?? "other";
      groups.set(tag, [...(groups.get(tag) ?? []), operationOf(method, path, operation)]);
    }
  }
  byId("operations").replaceChildren(...[...groups].flatMap(([tag, operations]) => [el("h2", {}, tag), ...operations]));
}

const paragraphs = (text) => (text ?? "").trim().split(/\n\s*\n/).filter(Boolean).map((each) => el("p", {}, prose(each)));

function operationOf(method, path, operation) {
  const details = el(
    "details",
    { class: "operation" },
    el("summary", {}, el("span", { class: "method" }, method), el("code", {}, path), el("span", { class: "summary" }, (operation.summary ?? "") + (operation.deprecated ? " (deprecated)" : ""))),
  );
  details.addEventListener("toggle", () => details.append(el("div", {}, contentOf(method, path, operation))), { once: true });
  return details;
}

/** What an operation takes and gives; made when it is opened. */
function contentOf(method, path, operation) {
  const parameters = operation.parameters ?? [];
  const media = operation.requestBody?.content["application/json"];
  const taken = media
    ? fieldsOf(media.schema, spec)
    : parameters.map(({ name, schema, description, required }) => ({ name, schema: { description, ...schema }, required }));
  const given = fieldsOf(operation.responses["200"]?.content?.["application/json"]?.schema, spec);
  return [
    ...paragraphs(operation.description),
    formOf(method, path, parameters, media),
    taken.length > 0 && el("h3", {}, "Takes"),
    taken.length > 0 && fieldList(taken, spec, true),
    given.length > 0 && el("h3", {}, "Gives"),
    given.length > 0 && fieldList(given, spec, false),
    el("h3", {}, "Refuses"),
    el("dl", { class: "statuses" }, Object.entries(operation.responses).filter(([status]) => status !== "200").map(([status, { description }]) => el("div", {}, el("dt", {}, status), el("dd", {}, description)))),
  ];
}

/** A form that sends a request and shows its answer. */
function formOf(method, path, parameters, media) {
  const inputs = parameters.map(({ name, in: place, schema }) => {
    const value = name === "index" ? known : (resolved(schema, spec).examples?.[0] ?? VALUES[name] ?? "");
    const input = el("input", { type: "text", value: String(value), spellcheck: "false", autocomplete: "off" });
    return { name, place, input, label: el("label", {}, name, input) };
  });
  const body = media && el("textarea", { rows: 9, spellcheck: "false", "aria-label": `Body of ${method.toUpperCase()} ${path}` });
  if (body) body.value = JSON.stringify(exampleOf(media), null, 2);
  const answer = el("pre", { class: "answer", tabindex: "0", role: "group", "aria-label": "Answer", hidden: true });
  const note = el("span", { class: "hint", role: "status" });
  const copy = el("button", { type: "button" }, "Copy as curl");
  const form = el(
    "form",
    { class: "try" },
    inputs.length > 0 && el("div", { class: "parameters" }, inputs.map(({ label }) => label)),
    body,
    el("p", {}, el("button", { type: "submit", class: "main" }, "Send"), " ", copy, " ", note),
    answer,
  );
  const request = () => ({ method: method.toUpperCase(), url: addressOf(path, inputs), body: body?.value });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    note.textContent = "Sending …";
    const { status, text } = await send(request());
    note.textContent = status;
    answer.hidden = false;
    answer.textContent = shown(cut(text, MOST));
  });
  copy.addEventListener("click", async () => {
    const command = curlOf(request());
    if (await toClipboard(command)) return (note.textContent = "Copied.");
    answer.hidden = false;
    answer.textContent = command;
  });
  return form;
}

function exampleOf(media) {
  const schema = resolved(media.schema, spec);
  const given = media.example ?? Object.values(media.examples ?? {})[0]?.value ?? schema.example ?? schema.examples?.[0] ?? BODY;
  return "index" in (schema.properties ?? {}) && known ? { index: known, ...given } : given;
}

function addressOf(path, inputs) {
  let filled = path;
  const query = new URLSearchParams();
  for (const { name, place, input } of inputs) {
    if (place === "path") filled = filled.replace(`{${name}}`, encodeURIComponent(input.value));
    else if (input.value) query.set(name, input.value);
  }
  return new URL(`.${filled}${query.size ? `?${query}` : ""}`, document.baseURI).href;
}

async function send({ method, url, body }) {
  const headers = body === undefined ? {} : { "Content-Type": "application/json" };
  if (api.token.get()) headers.Authorization = `Bearer ${api.token.get()}`;
  try {
    const response = await fetch(url, { method, body, headers, cache: "no-store", credentials: "omit" });
    const text = await response.text();
    const isJson = response.headers.get("content-type")?.startsWith("application/json");
    return { status: `${response.status} ${response.statusText}`, text: isJson ? JSON.stringify(JSON.parse(text), null, 2) : text };
  } catch (error) {
    return { status: "no answer", text: error.message };
  }
}

function curlOf({ method, url, body }) {
  const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;
  const lines = [`curl -s ${quoted(url)}`];
  if (method === "POST" && body === undefined) lines.push("-X POST");
  if (api.token.get()) lines.push('-H "Authorization: Bearer $RSEARCH_TOKEN"');
  if (body !== undefined) lines.push("-H 'Content-Type: application/json'", `-d ${quoted(body)}`);
  return lines.join(" \\\n  ");
}

byId("token").addEventListener("submit", (event) => {
  event.preventDefault();
  const taken = api.token.set(byId("token-text").value);
  byId("token-note").textContent = taken ? "It is sent from now on, until this tab is closed." : "Not a token: copy it again, without other characters.";
  if (taken) byId("token-text").value = "";
});

open().catch((error) => { byId("problem").textContent = `The description cannot be read: ${error.message}. Reload the page.`; });
