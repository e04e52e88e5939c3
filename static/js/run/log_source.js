// Where log lines come from: the server for what was, the store for what comes.
import { printable } from "./format.js";

const LEVELS = ["DEBUG", "INFO", "WARNING", "ERROR"];

/** Whether a live line belongs to what a view shows; the server answers by the same rules. */
export function matches(line, { reporter = "", level = "", text = "" }) {
  if (reporter && line.reporter !== reporter) return false;
  if (level && LEVELS.indexOf(line.level) < LEVELS.indexOf(level)) return false;
  return !text || line.text.toLowerCase().includes(text.toLowerCase());
}

/** Log lines of the run: `{id, reporter, time, stream, level, text}`, `text` without control characters. */
export class LogSource {
  constructor(url, store) {
    this.url = url;
    this.views = new Set();
    store.on("log", (lines) => this.#publish(lines.map(({ line, ...rest }) => ({ ...rest, text: printable(line) }))));
    store.on("all", () => this.views.forEach((view) => view.reload()));
  }

  /** Send the view every new line from now on. */
  follow(view) {
    this.views.add(view);
  }

  /**
   * Ask the server for the last lines that match, of those before the line with the id `before` where that is given; or
   * for the first ones after the line `after`. `limit` is how many at most.
   *
   * @returns {Promise<{lines: object[], more: boolean}>}
   */
  async fetch({ reporter = "", level = "", text = "", before = "", after = "", limit = "" }, signal) {
    const url = new URL(this.url, window.location.href);
    for (const [key, value] of Object.entries({ reporter, level, q: text, before, after, limit })) {
      if (value !== "") url.searchParams.set(key, value);
    }
    const response = await fetch(url, { signal, headers: { Accept: "application/json" } });
    if (!response.ok) throw new Error(`the server answered ${response.status}`);
    const { lines, more, next } = await response.json();
    // A very short text is looked for piece by piece.
    if (lines.length === 0 && next !== undefined) {
      return this.fetch({ reporter, level, text, limit, ...(after === "" ? { before: next } : { after: next }) }, signal);
    }
    return {
      more,
      lines: lines.map(([id, from, time, stream, lineLevel, line]) => ({
        id,
        reporter: from,
        time,
        stream,
        level: lineLevel,
        text: printable(line),
      })),
    };
  }

  #publish(lines) {
    this.views.forEach((view) => view.arrived(lines));
  }
}
