/** Requests to the service. Every failure is an ApiError with a one-line message for people. */

const TOKEN = "rsearch-token";
const PATIENCE = 20_000; // milliseconds: a little longer than the service lets a query wait
const OPENING = 120_000; // for the list, for which the service opens every index

export class ApiError extends Error {
  /** `kind`: "gone" (no answer), "token" (401), "refused" (400, 422: the request) or "failed" (the service). */
  constructor(kind, message) {
    super(message);
    this.kind = kind;
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
  const message = typeof answer?.error === "string" ? answer.error : `the service answered ${response.status}`;
  throw new ApiError({ 400: "refused", 401: "token", 422: "refused" }[response.status] ?? "failed", message);
}

export const indexes = () => call("api/indexes", { patience: OPENING });

export const search = (body, signal) => call("api/search", { method: "POST", body: JSON.stringify(body), signal });

export const documentAt = (index, row) => call(`api/documents/${encodeURIComponent(index)}/${row}`);
