/** An answer held against the full dimension's: where each hit stands there, and what was lost. */

/**
 * `marks`: for each hit {kind, full}: "same", "up" (further up here than there), "down", or "other"
 * (the full answer does not have it; `full` is null). `lost`: hits that only the full answer has.
 */
export function compared(hits, fullHits) {
  const ranks = new Map(fullHits.map((hit) => [hit.row, hit.rank]));
  const rows = new Set(hits.map((hit) => hit.row));
  const marks = hits.map((hit) => {
    const full = ranks.get(hit.row) ?? null;
    if (full === null) return { kind: "other", full };
    return { kind: full === hit.rank ? "same" : full > hit.rank ? "up" : "down", full };
  });
  return { marks, lost: fullHits.filter((hit) => !rows.has(hit.row)) };
}

/** The share of the full answer's hits that these have too; 1 where it has none. */
export function overlap(hits, fullHits) {
  if (!fullHits.length) return 1;
  const rows = new Set(hits.map((hit) => hit.row));
  return fullHits.filter((hit) => rows.has(hit.row)).length / fullHits.length;
}

/** The mark as it is shown, and as it is read out. */
export function told(mark, rank, fullDim, depth) {
  if (mark.kind === "other") {
    return [`not in full top ${depth}`, `not among the first ${depth} at ${fullDim} dimensions`];
  }
  if (mark.kind === "same") return [`= ${mark.full}`, `same rank at ${fullDim} dimensions`];
  const arrow = mark.kind === "up" ? "↑" : "↓";
  return [`${arrow} ${mark.full} → ${rank}`, `rank ${mark.full} at ${fullDim} dimensions, ${rank} here`];
}
