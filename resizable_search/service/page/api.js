/** Requests to the service. Every failure is an ApiError with a one-line message for people. */

import { bodyOf } from "./state.js";

const TOKEN = "rsearch-token";
const PATIENCE = 20_000; // milliseconds: a little longer than the service lets a query wait
const OPENING = 120_000; // for the list, for which the service opens every index
const PASSAGE = 260; // characters
const FIELDS = ["rank", "row", "score", "id", "title", "url", "snippet", "text_length", "copies"];

export class ApiError extends Error {
  /**
   * `kind`: "gone" (no answer), "token" (401), "refused" (400, 422: the request) or "failed" (the service); `field`:
   * what of the request is wrong, if known.
   */
  constructor(kind, message, field = null) {
    super(message);
    Object.assign(this, { kind, field });
  }
}

const INVISIBLE = /[\p{Cc}\p{Cf}]/gu; // they come with pasted text
const SENDABLE = /^[\x20-\x7e\xa0-\xff]+$/; // what a browser puts into a header

export const token = {
  get: () => sessionStorage.getItem(TOKEN)?.match(SENDABLE)?.[0] ?? null,
  /** Keep a token without its invisible characters; false if it has others that cannot be sent. */
  set(text) {
    const cleaned = text.replace(INVISIBLE, "").trim();
    if (!SENDABLE.test(cleaned)) return false;
    sessionStorage.setItem(TOKEN, cleaned);
    return true;
  },
  drop: () => sessionStorage.removeItem(TOKEN),
};

async function call(path, { signal, patience = PATIENCE, ...options } = {}) {
  const controller = new AbortController();
  const stop = () => controller.abort();
  let isLate = false;
  const timer = setTimeout(() => {
    isLate = true;
    stop();
  }, patience);
  signal?.addEventListener("abort", stop, { once: true });
  const headers = { Accept: "application/json" };
  if (options.body) headers["Content-Type"] = "application/json";
  if (token.get()) headers.Authorization = `Bearer ${token.get()}`;
  let response, answer;
  try {
    response = await fetch(new URL(path, document.baseURI), { ...options, headers, signal: controller.signal, cache: "no-store", credentials: "omit" });
    answer = await response.json();
  } catch (error) {
    if (isLate) throw new ApiError("gone", `${location.host} did not answer within ${patience / 1000} s: try again later`);
    if (error.name === "AbortError") throw error;
    if (response) throw new ApiError("failed", `the service answered ${response.status} without JSON: reload the page`);
    throw new ApiError("gone", `${location.host} does not answer: is \`rsearch serve\` still running?`);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", stop);
  }
  if (response.ok) return answer;
  const { message = `the service answered ${response.status}`, hint, field } = answer?.error ?? {};
  const kind = { 400: "refused", 401: "token", 422: "refused" }[response.status] ?? "failed";
  throw new ApiError(kind, hint ? `${message}: ${hint}` : message, field);
}

export const indexes = () => call("api/v1/indexes", { patience: OPENING });

/** What else is known of an index: {local, questions, curve}. */
export const index = (name) => call(`api/v1/indexes/${encodeURIComponent(name)}`);

export const SEARCH = new URL("api/v1/search", document.baseURI).href;

const post = (body, signal) => call(SEARCH, { method: "POST", body: JSON.stringify(body), signal });

/** The answer to a state, with the full dimension's; of texts only the passages that are shown. */
export const search = (state, signal) =>
  post({ ...bodyOf(state), fields: FIELDS, snippet: PASSAGE, explain: true, compare: true }, signal);

/** An answer whose time and rows matter. */
export const measure = (body, signal) => post({ ...body, fields: ["row"], explain: true }, signal);

export const documentAt = (index, row) => call(`api/v1/documents/${encodeURIComponent(index)}/${row}`);
