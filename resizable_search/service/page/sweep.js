/**
 * Time and overlap of one query at every stored dimension, with and without rerank. One request after the
 * other, in rounds, so that whatever disturbs the machine for a moment disturbs no dimension alone; what was
 * measured of a question is kept while the way of searching it changes.
 */

import { overlap } from "./compare.js";
import { median } from "./format.js";
import { bodyOf, hasPlan, isAsking, RERANK, wayOf } from "./state.js";

export const ROUNDS = 5;
export const FEWEST = 3; // runs before times are compared

export class Sweep {
  /** `search(body, signal)` asks the service; `changed(failure)` hears of every new figure. */
  constructor(search, changed) {
    this.search = search;
    this.changed = changed;
    this.question = null;
    this.measured = new Map();
    this.controller = new AbortController();
  }

  stop() {
    this.controller.abort();
  }

  /** Measure for this state what is missing; `ways` in the order of their worth, `full` the full answer's hits. */
  async measure(state, question, ways, full) {
    this.stop();
    const { signal } = (this.controller = new AbortController());
    if (question !== this.question) {
      this.question = question;
      this.measured = new Map();
    }
    try {
      for (let round = 1; round <= ROUNDS; round += 1) {
        for (const way of ways) {
          const held = this.of(way) ?? { runs: [], overlap: 0 };
          if (held.runs.length >= round) continue;
          const asked = { ...state, mode: state.mode && "dense", dim: null, rerank: 0, plan: "", recall: null, ...way };
          const answer = await this.search(bodyOf(asked), signal);
          if (signal.aborted) return;
          const { scan, rerank, words = 0 } = answer.timings_ms;
          held.runs.push({ scan: scan + words, rerank, stages: answer.explain ?? [] });
          held.overlap = overlap(answer.hits, full);
          this.measured.set(keyOf(way), held);
          this.changed(null);
        }
      }
    } catch (error) {
      if (!signal.aborted) this.changed(error);
    }
  }

  of(way) {
    return this.measured.get(keyOf(way));
  }

  /**
   * {scan, rerank, ms, low, high, overlap, runs, stages} of a way: medians in milliseconds, and the range of the
   * runs; null before it was measured.
   */
  figures(way) {
    const held = this.of(way);
    if (!held) return null;
    const { runs } = held;
    const times = runs.map(({ scan, rerank }) => scan + rerank);
    return {
      scan: median(runs.map(({ scan }) => scan)),
      rerank: median(runs.map(({ rerank }) => rerank)),
      ms: median(times),
      low: Math.min(...times),
      high: Math.max(...times),
      overlap: held.overlap,
      runs: runs.length,
      stages: runs[0].stages.map((_, i) => median(runs.map(({ stages }) => stages[i]?.ms ?? 0))),
    };
  }
}

/** How many times as long the second takes as the first; null if nothing is proven: few runs, or ranges that overlap. */
export function ratio(first, second) {
  if (!first || !second || Math.min(first.runs, second.runs) < FEWEST) return null;
  if (first.low <= second.high && second.low <= first.high) return null;
  return second.ms / first.ms;
}

export const keyOf = (way) => JSON.stringify([way.dim ?? null, way.rerank || 0, way.plan ?? null, way.recall ?? null, way.mode || null]);

/** What the measurements of a state belong to: all of it but the way. */
export const questionOf = ({ index, query, similar, k, where, group, mode }) =>
  JSON.stringify([index, query, similar, k, where, group, Boolean(mode)]);

/** The way of a state, to be measured: with words, too, if they count. */
export const measuredWay = (state) => (state.mode && state.mode !== "dense" ? { ...wayOf(state), mode: state.mode } : wayOf(state));

/** Every way that the chart shows: the current one, the full dimension, and then each size with and without rerank. */
export function waysOf(state, index, rerank = RERANK) {
  if (!isAsking(state)) return [];
  const plain = hasPlan(state) || state.dim === null ? [] : [{ dim: state.dim, rerank: 0 }, { dim: state.dim, rerank }];
  const sizes = index.dims.filter((dim) => dim < index.full_dim).reverse();
  const ways = [
    measuredWay(state),
    { dim: null, rerank: 0 },
    ...plain,
    ...sizes.flatMap((dim) => [{ dim, rerank: 0 }, { dim, rerank }]),
  ];
  const seen = new Set();
  return ways.filter((way) => !seen.has(keyOf(way)) && seen.add(keyOf(way)));
}
