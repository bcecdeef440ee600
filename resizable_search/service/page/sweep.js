/**
 * Time and overlap of one query at every stored dimension, with and without rerank. One request after the
 * other, in rounds, so that whatever disturbs the machine for a moment disturbs no dimension alone; what was
 * measured of a question is kept while the way of searching it changes.
 */

import { overlap } from "./compare.js";
import { median } from "./format.js";
import { bodyOf, wayOf } from "./state.js";

export const ROUNDS = 5;

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
          const held = this.of(way) ?? { scans: [], reranks: [], overlap: 0 };
          if (held.scans.length >= round) continue;
          const asked = { ...state, mode: "", dim: null, rerank: 0, plan: "", recall: null, ...way };
          const answer = await this.search(bodyOf(asked), signal);
          if (signal.aborted) return;
          held.scans.push(answer.timings_ms.scan);
          held.reranks.push(answer.timings_ms.rerank);
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

  /** {scan, rerank, ms, overlap, runs} of a way, medians in milliseconds; null before it was measured. */
  figures(way) {
    const held = this.of(way);
    if (!held) return null;
    const scan = median(held.scans);
    const rerank = median(held.reranks);
    const ms = median(held.scans.map((each, i) => each + held.reranks[i]));
    return { scan, rerank, ms, overlap: held.overlap, runs: held.scans.length };
  }
}

export const keyOf = (way) => JSON.stringify([way.dim ?? null, way.rerank || 0, way.plan ?? null, way.recall ?? null]);

/** What the measurements of a state belong to: all of it but the way. */
export const questionOf = ({ index, query, k, where, group }) => JSON.stringify([index, query, k, where, group]);

/** Every way that the chart shows: the current one and the full dimension first. */
export function waysOf(state, index) {
  const full = { dim: null, rerank: 0 };
  const smaller = index.dims.filter((dim) => dim < index.full_dim).reverse();
  const rerank = state.plan || state.recall !== null ? 0 : state.rerank;
  const ways = [wayOf(state), full, ...smaller.map((dim) => ({ dim, rerank: 0 }))];
  if (rerank) ways.push(...smaller.map((dim) => ({ dim, rerank })));
  if (rerank && state.dim !== null) ways.push({ dim: state.dim, rerank: 0 });
  const seen = new Set();
  return ways.filter((way) => !seen.has(keyOf(way)) && seen.add(keyOf(way)));
}
