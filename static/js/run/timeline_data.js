// Spans of work and what they say of rounds: when each began and ended, and who was last.

export const PHASES = ["download", "train", "upload", "wait", "aggregate", "evaluate"];
const LEAST_OFFSET = 0.5; // seconds: what is less may be the way of the message

/** The spans of some rounds, by reporter; times in seconds of the platform's clock where the offsets are known. */
export class Spans {
  constructor() {
    this.spans = new Map();
  }

  clear() {
    this.spans.clear();
  }

  /** Take in a span; one of the same reporter, name and value is replaced. */
  put(edgeId, name, value, started, ended) {
    const round = /^-?\d+$/.test(value) ? Number(value) : null;
    this.spans.set(`${edgeId}|${name}|${value}`, { edgeId, name, value, round, started, ended });
  }

  /**
   * Those of the rounds [first, last] as `{edgeId, name, value, round, start, end, open}`, in the platform's time.
   *
   * @param {(edgeId: number) => number} offsetOf seconds by which a reporter's clock is ahead
   * @param {number|null} now end of spans that go on; null: nothing goes on any more
   */
  within(first, last, offsetOf, now) {
    const found = [];
    for (const span of this.spans.values()) {
      if (span.round !== null && (span.round < first || span.round > last)) continue;
      const offset = offsetOf(span.edgeId);
      const start = span.started === null ? span.ended - offset : span.started - offset;
      const open = span.ended === null;
      const end = open ? Math.max(start, now ?? start) : Math.max(start, span.ended - offset);
      found.push({ ...span, start, end, open });
    }
    return found.sort((a, b) => a.start - b.start);
  }
}

/** Seconds by which a device's clock is ahead and worth correcting, or 0. */
export function offsetOf(device) {
  const offset = device?.clock_offset ?? 0;
  return Math.abs(offset) >= LEAST_OFFSET ? offset : 0;
}

/**
 * What each round came to: `{round, start, end, open, straggler, behind, parts, waiting}`, in the order of the rounds.
 *
 * `straggler` is the device that was ready last (its download, training and upload were done), or the only one that is
 * not ready yet; null where fewer than two devices took part. `behind` is by how many seconds it was behind the one
 * before; `parts` has the seconds of each of its phases; `waiting` are the devices that are not ready.
 */
export function roundsOf(spans) {
  const rounds = new Map();
  for (const span of spans) {
    if (span.round === null) continue;
    let round = rounds.get(span.round);
    if (!round) rounds.set(span.round, (round = { round: span.round, start: Infinity, end: -Infinity, own: new Map() }));
    if (span.edgeId === 0 || span.name !== "wait") {
      round.start = Math.min(round.start, span.start);
      round.end = Math.max(round.end, span.end);
    }
    if (span.edgeId === 0) round.evaluated ||= span.name === "evaluate" && !span.open;
    if (span.edgeId === 0 || span.name === "wait") continue;
    const own = round.own.get(span.edgeId) ?? { ready: -Infinity, open: false, parts: {}, last: "" };
    own.ready = Math.max(own.ready, span.end);
    own.open ||= span.open;
    own.parts[span.name] = (own.parts[span.name] ?? 0) + span.end - span.start;
    own.last = span.name;
    round.own.set(span.edgeId, own);
  }
  return [...rounds.values()].filter((round) => round.start <= round.end).map(judged).sort((a, b) => a.round - b.round);
}

function judged({ round, start, end, own, evaluated = false }) {
  // A device between two phases has nothing open: it is ready when its upload is done, or the round is over.
  const notReady = (part) => !evaluated && (part.open || (part.last !== "upload" && "train" in part.parts));
  const waiting = [...own].filter(([, part]) => notReady(part)).map(([edgeId]) => edgeId);
  const order = [...own].sort((a, b) => b[1].ready - a[1].ready);
  const decided = waiting.length <= 1;
  const lastId = waiting.length === 1 ? waiting[0] : order[0]?.[0];
  const before = order.find(([edgeId]) => edgeId !== lastId)?.[1];
  const judges = decided && own.size > 1;
  return {
    round,
    start,
    end,
    open: !evaluated,
    waiting,
    straggler: judges ? lastId : null,
    behind: judges ? Math.max(0, own.get(lastId).ready - before.ready) : 0,
    parts: judges ? own.get(lastId).parts : {},
    bounds: own,
  };
}
