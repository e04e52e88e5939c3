// A window on a log of any length: the document holds some thousands of its lines, live at the end, and scrolling either
// way fetches more on one side and drops them on the other.
import { icon } from "../icons.js";
import { element, rowOf } from "./log_rows.js";
import { matches } from "./log_source.js";

const MOST_LINES = 5_000; // in the document
const CHUNK = 500; // lines in one element: a browser lays out anew what has changed, and these have not
const AT_END = 24; // pixels from the end at which a reader still follows
const NEAR_EDGE = 400; // pixels from either side at which more lines are fetched
const AROUND = 300; // lines on either side of one that is jumped to

export class LogView {
  /**
   * @param {HTMLElement} root is filled
   * @param {object} options
   * @param {string} options.label what a screen reader calls it
   * @param {import("./log_source.js").LogSource} options.source
   * @param {((reporter: string) => {name: string, hue: number})|null} options.who names reporters; null: no names shown
   * @param {(following: boolean) => void} options.onFollow told when the view begins or ceases to follow the end
   */
  constructor(root, { label, source, who = null, onFollow = () => {} }) {
    this.source = source;
    this.who = who;
    this.onFollow = onFollow;
    this.filter = null;
    this.ids = new Set();
    this.older = false; // whether lines before the first shown one match
    this.newer = false; // whether lines after the last shown one match: then new ones are not appended
    this.following = true;
    this.unseen = 0;
    this.scroller = element("div", "log-lines");
    this.scroller.tabIndex = 0;
    this.scroller.setAttribute("role", "log");
    this.scroller.setAttribute("aria-live", "off");
    this.scroller.setAttribute("aria-label", label);
    this.note = element("div", "log-note");
    this.jump = element("button", "btn btn-sm btn-primary log-jump");
    this.jump.type = "button";
    this.jump.hidden = true;
    this.jump.append(icon("arrow-down"), element("span", ""));
    root.replaceChildren(this.note, this.scroller, this.jump);
    this.scroller.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    this.jump.addEventListener("click", () => this.toEnd());
    source.follow(this);
  }

  /** Show the last lines that match `{reporter, level, text}`. */
  show(filter) {
    this.filter = filter;
    return this.reload();
  }

  /** Fetch anew; what arrives meanwhile is kept. */
  reload() {
    if (!this.filter) return Promise.resolve();
    return this.#load(async (signal) => {
      const { lines, more } = await this.source.fetch(this.filter, signal);
      return { lines, older: more, newer: false };
    });
  }

  /** Go to the end, and follow it. */
  toEnd() {
    if (this.newer) this.reload();
    else this.#follow();
  }

  /** Stay where the view is, whatever comes. */
  pause() {
    this.#setFollowing(false);
    this.#showJump();
  }

  /** Show the line with this id among its neighbours that match the filter. */
  async goTo(id) {
    await this.#load(async (signal) => {
      const [before, after] = await Promise.all([
        this.source.fetch({ ...this.filter, before: id + 1, limit: AROUND }, signal),
        this.source.fetch({ ...this.filter, after: id, limit: AROUND }, signal),
      ]);
      return { lines: [...before.lines, ...after.lines], older: before.more, newer: after.more, at: id };
    });
  }

  /** The next (or the previous) error from where the reader is; whether there is one. */
  async goToError(forward) {
    const from = this.marked ?? this.#readingId();
    const side = forward ? { after: from ?? 0 } : { before: from ?? "" };
    const { lines } = await this.source.fetch({ ...this.filter, level: "ERROR", ...side, limit: 1 });
    if (lines.length === 0) return false;
    await this.goTo(lines[0].id);
    return true;
  }

  /** Take in lines from the socket. */
  arrived(lines) {
    if (!this.filter) return;
    const mine = lines.filter((line) => matches(line, this.filter));
    if (mine.length === 0) return;
    if (this.loading) this.loading.push(...mine);
    else this.#take(mine);
  }

  /** Replace what is shown by what `fetch` answers. */
  async #load(fetch) {
    this.request?.abort();
    const request = (this.request = new AbortController());
    this.loading = [];
    this.#say("Loading");
    try {
      const { lines, older, newer, at } = await fetch(request.signal);
      const live = this.loading;
      this.loading = null;
      this.ids.clear();
      this.scroller.replaceChildren();
      Object.assign(this, { older, newer, marked: at, unseen: 0 });
      this.#append(lines);
      if (at === undefined) this.#setFollowing(true);
      else this.#mark(at);
      this.#take(live);
      if (at === undefined) this.#follow();
    } catch (error) {
      if (error.name === "AbortError" || request !== this.request) return;
      this.loading = null;
      this.#say("The log could not be fetched. Check your connection, then choose it again.");
    }
  }

  #mark(id) {
    this.#setFollowing(false);
    const row = this.#rowOf(id);
    row?.classList.add("is-marked");
    row?.scrollIntoView({ block: "center" });
    this.#showJump();
  }

  /** Take in lines that follow the last ones. */
  #take(lines) {
    if (lines.length === 0) return this.#describe();
    // A reader who stays somewhere gets no endless document: what does not fit is fetched when it is scrolled to.
    if (!this.newer && !this.following && this.ids.size >= MOST_LINES) this.newer = true;
    const fresh = this.newer ? lines : this.#append(lines);
    if (this.following && !this.newer) {
      this.#dropFirst();
      this.scroller.scrollTop = this.scroller.scrollHeight;
    } else {
      this.unseen += fresh.length;
      this.#showJump();
    }
    this.#describe();
  }

  /** Append lines that are not shown yet, and return them. */
  #append(lines) {
    const fresh = this.#unknown(lines);
    for (let from = 0; from < fresh.length; ) {
      let chunk = this.scroller.lastElementChild;
      if (!chunk || chunk.childElementCount >= CHUNK) this.scroller.append((chunk = element("div", "log-chunk")));
      const rows = fresh.slice(from, from + CHUNK - chunk.childElementCount).map((line) => this.#row(line));
      chunk.append(...rows);
      from += rows.length;
    }
    return fresh;
  }

  /** Those of the lines that are not shown yet, each once; from now on they count as shown. */
  #unknown(lines) {
    return lines.filter(({ id }) => !this.ids.has(id) && this.ids.add(id));
  }

  #drop(chunk) {
    for (const row of chunk.children) this.ids.delete(Number(row.dataset.id));
    chunk.remove();
  }

  /** Drop lines at the start until the rest may stay; returns by how many pixels the others moved up. */
  #dropFirst() {
    const height = this.scroller.scrollHeight;
    while (this.ids.size > MOST_LINES && this.scroller.childElementCount > 1) {
      this.#drop(this.scroller.firstElementChild);
      this.older = true;
    }
    return height - this.scroller.scrollHeight;
  }

  #dropLast() {
    while (this.ids.size > MOST_LINES && this.scroller.childElementCount > 1) {
      this.#drop(this.scroller.lastElementChild);
      this.newer = true;
    }
  }

  #row(line) {
    return rowOf(line, this.who, this.filter.text);
  }

  #rowOf(id) {
    return this.scroller.querySelector(`[data-id="${id}"]`);
  }

  /** The id of the line at the middle of the view. */
  #readingId() {
    const box = this.scroller.getBoundingClientRect();
    const row = document.elementFromPoint(box.left + 40, box.top + box.height / 2)?.closest(".log-line");
    return row ? Number(row.dataset.id) : undefined;
  }

  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.scroller;
    const left = scrollHeight - scrollTop - clientHeight;
    this.#setFollowing(left <= AT_END && !this.newer);
    if (this.following) this.unseen = 0;
    this.#showJump();
    if (this.loading || scrollHeight <= clientHeight) return;
    if (scrollTop < NEAR_EDGE && this.older) this.#more("before");
    else if (left < NEAR_EDGE && this.newer) this.#more("after");
  }

  /** Fetch lines before the first or after the last one that is shown, and put them there. */
  async #more(side) {
    if (this.fetching) return;
    this.fetching = true;
    const filter = this.filter;
    const rows = this.scroller.querySelectorAll(side === "before" ? ".log-line:first-child" : ".log-line:last-child");
    const edge = side === "before" ? rows[0] : rows[rows.length - 1];
    try {
      const { lines, more } = await this.source.fetch({ ...filter, [side]: edge.dataset.id });
      if (filter !== this.filter || !edge.isConnected) return;
      const top = this.scroller.scrollTop;
      if (side === "before") {
        const height = this.scroller.scrollHeight;
        this.#prepend(this.#unknown(lines));
        this.older = more;
        this.scroller.scrollTop = top + this.scroller.scrollHeight - height;
        this.#dropLast();
      } else {
        this.#append(lines);
        this.newer = more;
        this.scroller.scrollTop = top - this.#dropFirst();
      }
      this.#describe();
    } catch {
      // Scrolling again tries again.
    } finally {
      this.fetching = false;
    }
  }

  #prepend(lines) {
    const chunks = [];
    for (let from = 0; from < lines.length; from += CHUNK) {
      const chunk = element("div", "log-chunk");
      chunk.append(...lines.slice(from, from + CHUNK).map((line) => this.#row(line)));
      chunks.push(chunk);
    }
    this.scroller.prepend(...chunks);
  }

  #follow() {
    this.#setFollowing(true);
    this.unseen = 0;
    this.#dropFirst();
    this.scroller.scrollTop = this.scroller.scrollHeight;
    this.#showJump();
  }

  #setFollowing(following) {
    if (following) this.marked = undefined;
    if (this.following === following) return;
    this.following = following;
    this.onFollow(following);
  }

  #showJump() {
    this.jump.hidden = this.following;
    const words = this.unseen > 0 ? `${this.unseen.toLocaleString("en")} new` : "To the end";
    this.jump.lastElementChild.textContent = words;
  }

  #describe() {
    if (this.ids.size > 0) return this.#say("");
    const filtered = this.filter.text || this.filter.level;
    this.#say(filtered ? "No line matches." : "Nothing has been written yet. Lines appear here as they come.");
  }

  #say(text) {
    this.note.textContent = text;
    this.note.hidden = text === "";
    this.note.classList.toggle("is-alone", this.ids.size === 0);
  }
}
