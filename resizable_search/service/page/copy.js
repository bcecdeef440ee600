/** A search as a command, as curl and as Python, to run elsewhere. */

import { bodyOf } from "./state.js";

const shell = (text) => (/^[\w./:@%+,=-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`);

/** A text as a literal of Python. */
const literal = (text) => JSON.stringify(text);

/** The option that names the home, where commands need it. */
export const homeOption = (home) => (home ? ` --home ${shell(home)}` : "");

export function asCommand(state, home) {
  const words = state.similar ? ["rsearch", "similar", shell(state.similar)] : ["rsearch", "query", shell(state.query)];
  const option = (name, value) => words.push(name, shell(String(value)));
  option("--index", state.index);
  if (state.k !== 10) option("-k", state.k);
  if (state.plan) option("--plan", state.plan);
  else if (state.recall !== null) option("--recall", state.recall);
  else if (state.mode !== "lexical") {
    if (state.dim !== null) option("--dim", state.dim);
    if (state.dim !== null && state.rerank) option("--rerank", state.rerank);
  }
  if (state.where) option("--where", state.where);
  if (state.mode && !state.similar) option("--mode", state.mode);
  if (!state.group && !state.similar) words.push("--no-group");
  return words.join(" ") + homeOption(home);
}

/** What is sent: without what is so anyway. */
function request(state) {
  const { group, rerank, ...body } = bodyOf(state);
  const kept = Object.entries(body).filter(([, value]) => value !== null && value !== undefined);
  const more = { ...(rerank ? { rerank } : {}), ...(group ? {} : { group }) };
  return { ...Object.fromEntries(kept), ...more };
}

/** The token itself is never copied: the shell has it. */
export function asCurl(state, url, hasToken) {
  const lines = [`curl -s ${url}`, "-H 'Content-Type: application/json'"];
  if (hasToken) lines.push('-H "Authorization: Bearer $RSEARCH_TOKEN"');
  lines.push(`-d ${shell(JSON.stringify(request(state)))}`);
  return lines.join(" \\\n  ");
}

export function asPython(state, home) {
  const { index, query, similar, ...options } = request(state);
  if (similar) for (const name of ["mode", "group"]) delete options[name]; // which it does not take
  const given = Object.entries(options).map(([name, value]) => `${name}=${pythonValue(value)}`);
  const call = similar ? "similar" : "query";
  return [
    "from resizable_search import open_index",
    "",
    `with open_index(${literal(index)}${home ? `, home=${literal(home)}` : ""}) as index:`,
    `    for hit in index.${call}(${[literal(similar ?? query), ...given].join(", ")}):`,
    "        print(hit.rank, hit.score, hit.title)",
  ].join("\n");
}

const pythonValue = (value) => (typeof value === "string" ? literal(value) : { true: "True", false: "False" }[value] ?? String(value));

/** Put a text into the clipboard; whether it went. */
export async function toClipboard(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}
