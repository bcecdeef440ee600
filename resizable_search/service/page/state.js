/**
 * What is asked, as one value; and that value as the page's address, so that a copied address shows the
 * same view. The sliders, a tuned plan (`recall`) and a plan of one's own exclude each other.
 */

export const NOTHING = Object.freeze({
  query: "",
  index: null,
  dim: null, // the full dimension
  rerank: 0,
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
  return {
    query: given.get("q") ?? "",
    index: given.get("index"),
    dim: natural(given.get("dim"), null),
    rerank: natural(given.get("rerank"), NOTHING.rerank),
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
  if (state.index) given.set("index", state.index);
  if (state.plan) given.set("plan", state.plan);
  else if (state.recall !== null) given.set("recall", state.recall);
  else {
    if (state.dim !== null) given.set("dim", state.dim);
    if (state.rerank) given.set("rerank", state.rerank);
  }
  if (state.k !== NOTHING.k) given.set("k", state.k);
  if (state.where) given.set("where", state.where);
  if (state.mode) given.set("mode", state.mode);
  if (!state.group) given.set("group", "0");
  const text = given.toString();
  return text ? `?${text}` : location.pathname;
}

/** How it is searched, without what is searched for: equal ways have equal texts. */
export function wayOf(state) {
  if (state.plan) return { plan: state.plan };
  if (state.recall !== null) return { recall: state.recall };
  return { dim: state.dim, rerank: state.rerank };
}

/** What a search over HTTP sends. */
export function bodyOf(state) {
  return {
    index: state.index,
    query: state.query,
    k: state.k,
    where: state.where || null,
    mode: state.mode || null,
    group: state.group,
    ...(state.mode === "lexical" ? {} : wayOf(state)),
  };
}

/** The state with numbers that this index and this service have; a shared address may name others. */
export function fitted(state, index, limits) {
  const within = (value, low, high) => Math.min(Math.max(value, low), high);
  return {
    ...state,
    index: index.name,
    dim: state.dim === null || state.dim >= index.full_dim ? null : Math.max(state.dim, 1),
    rerank: within(state.rerank, 0, limits.rerank),
    k: within(state.k, 1, limits.k),
  };
}
