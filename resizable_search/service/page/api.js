/** Requests to the service. Every failure is an ApiError with a one-line message for people. */

const TOKEN = "rsearch-token";

export class ApiError extends Error {
  /** `kind`: "gone" (no answer), "token" (401) or "refused" (the service says why). */
  constructor(kind, message) {
    super(message);
    this.kind = kind;
  }
}

export const token = {
  get: () => sessionStorage.getItem(TOKEN),
  set: (text) => sessionStorage.setItem(TOKEN, text),
  drop: () => sessionStorage.removeItem(TOKEN),
};

async function call(path, options = {}) {
  const headers = { Accept: "application/json" };
  if (options.body) headers["Content-Type"] = "application/json";
  if (token.get()) headers.Authorization = `Bearer ${token.get()}`;
  let response, answer;
  try {
    response = await fetch(new URL(path, document.baseURI), { ...options, headers, cache: "no-store", credentials: "omit" });
    answer = await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    if (response) throw new ApiError("refused", `the service answered ${response.status} without JSON: reload the page`);
    throw new ApiError("gone", `${location.host} does not answer: is \`rsearch serve\` still running?`);
  }
  if (response.ok) return answer;
  const message = typeof answer?.error === "string" ? answer.error : `the service answered ${response.status}`;
  throw new ApiError(response.status === 401 ? "token" : "refused", message);
}

export const indexes = () => call("api/indexes");

export const search = (body, signal) => call("api/search", { method: "POST", body: JSON.stringify(body), signal });

export const documentAt = (index, row) => call(`api/documents/${encodeURIComponent(index)}/${row}`);
