/**
 * What is asked, as one value; and that value as the page's address, so that a copied address shows the
 * same view. The sliders, a tuned plan (`recall`) and a plan of one's own exclude each other.
 */

export const RERANK = 10; // what a view starts with
const WIDTH = 256; // dimensions that a view starts with, if they are stored

export const NOTHING = Object.freeze({
  query: "",
  similar: "", // the id of a document, in place of a query
  index: null,
  dim: null, // the full dimension; undefined: as a view starts
  rerank: 0, // undefined: as a view starts
  k: 10,
  where: "",
  recall: null,
  plan: "",
  mode: "", // as the plan says, else dense
  group: true, // false: every chunk, and every copy of a text
});

const natural = (text, otherwise) => (/^\d{1,9}$/.test(text ?? "") ? Number(text) : otherwise);

export function fromAddress(search) {
  const given = new URLSearchParams(search);
  const recall = Number(given.get("recall"));
  const dim = given.get("dim") === "full" ? null : natural(given.get("dim"), undefined);
  return {
    query: given.get("q") ?? "",
    similar: given.get("q") ? "" : (given.get("similar") ?? ""),
    index: given.get("index"),
    dim,
    rerank: natural(given.get("rerank"), dim === undefined ? undefined : 0),
    k: natural(given.get("k"), NOTHING.k),
    where: given.get("where") ?? "",
    recall: recall > 0 && recall <= 1 ? recall : null,
    plan: given.get("plan") ?? "",
    mode: ["dense", "lexical", "hybrid"].find((mode) => mode === given.get("mode")) ?? NOTHING.mode,
    group: given.get("group") !== "0",
  };
}

export function toAddress(state) {
  const given = new URLSearchParams();
  if (state.query) given.set("q", state.query);
  if (state.similar) given.set("similar", state.similar);
  if (state.index) given.set("index", state.index);
  if (state.plan) given.set("plan", state.plan);
  else if (state.recall !== null) given.set("recall", state.recall);
  else if (isAsking(state)) {
    given.set("dim", state.dim ?? "full");
    if (state.rerank) given.set("rerank", state.rerank);
  }
  if (state.k !== NOTHING.k) given.set("k", state.k);
  if (state.where) given.set("where", state.where);
  if (state.mode) given.set("mode", state.mode);
  if (!state.group) given.set("group", "0");
  const text = given.toString();
  return text ? `?${text}` : location.pathname;
}

export const isAsking = (state) => Boolean(state.query || state.similar);

/** Whether a plan decides instead of the sliders. */
export const hasPlan = (state) => Boolean(state.plan) || state.recall !== null;

/** How it is searched, without what is searched for: equal ways have equal texts. */
export function wayOf(state) {
  if (state.plan) return { plan: state.plan };
  if (state.recall !== null) return { recall: state.recall };
  return { dim: state.dim, rerank: state.rerank };
}

/** A way in few words. */
export function nameOf(way, full) {
  if (way.mode === "lexical") return "words alone";
  if (way.mode === "hybrid") return `${nameOf({ ...way, mode: null }, full)}, words`;
  if (way.plan) return `plan ${way.plan}`;
  if (way.recall) return `tuned for ${way.recall}`;
  if (way.dim === null || way.dim >= full) return `full ${full}`;
  return way.rerank ? `${way.dim} + rerank ${way.rerank}` : `${way.dim} alone`;
}

/** What a search over HTTP sends. */
export function bodyOf(state) {
  return {
    index: state.index,
    ...(state.similar ? { similar: state.similar } : { query: state.query }),
    k: state.k,
    where: state.where || null,
    mode: state.mode || null,
    group: state.group,
    ...(state.mode === "lexical" ? {} : wayOf(state)),
  };
}

/** The size that a view starts with: 256 or the next smaller one that is stored, else the smallest larger one. */
export function opening({ dims, full_dim: full }) {
  const smaller = dims.filter((dim) => dim < full);
  const low = smaller.filter((dim) => dim <= WIDTH);
  if (low.length) return Math.max(...low);
  return smaller.length ? Math.min(...smaller) : null;
}

/** The state with numbers that this index and this service have; a shared address may name others. */
export function fitted(state, index, limits) {
  const within = (value, low, high) => Math.min(Math.max(value, low), high);
  const decided = hasPlan(state);
  let dim = state.dim === undefined ? (decided ? null : opening(index)) : state.dim;
  if (dim !== null) dim = dim >= index.full_dim ? null : Math.max(dim, 1);
  const rerank = state.rerank ?? (decided || dim === null ? 0 : RERANK);
  return {
    ...state,
    index: index.name,
    dim,
    rerank: within(rerank, 0, limits.rerank),
    k: within(state.k, 1, limits.k),
  };
}
