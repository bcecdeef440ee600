/** An answer compared with the full dimension's: the rank of each hit there, and the lost hits. */

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

/** The hits, and each lost one where it would have been: [{hit, mark}], a lost one with the kind "lost". */
export function withGhosts(hits, { marks, lost }) {
  const entries = hits.map((hit, i) => ({ hit, mark: marks[i] }));
  const ghosts = lost.map((hit) => ({ hit, mark: { kind: "lost", full: hit.rank } }));
  const place = ({ hit, mark }) => (mark.kind === "lost" ? hit.rank - 0.5 : hit.rank);
  return [...entries, ...ghosts].sort((a, b) => place(a) - place(b));
}

/** The share of the full answer's hits among these; 1 if the full answer has none. */
export function overlap(hits, fullHits) {
  if (!fullHits.length) return 1;
  const rows = new Set(hits.map((hit) => hit.row));
  return fullHits.filter((hit) => rows.has(hit.row)).length / fullHits.length;
}

/** The mark as shown, and as a screen reader reads it. */
export function labels(mark, rank, fullDim, depth) {
  if (mark.kind === "lost") return ["lost", `lost here: rank ${mark.full} at ${fullDim} dimensions`];
  if (mark.kind === "other") {
    return [`not in full top ${depth}`, `not among the first ${depth} at ${fullDim} dimensions`];
  }
  if (mark.kind === "same") return [`= ${mark.full}`, `same rank at ${fullDim} dimensions`];
  const arrow = mark.kind === "up" ? "↑" : "↓";
  return [`${arrow} ${mark.full} → ${rank}`, `rank ${mark.full} at ${fullDim} dimensions, ${rank} here`];
}
