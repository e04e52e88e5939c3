// A window on a log: the last lines, live, with older ones on scrolling up.
import { icon } from "../icons.js";
import { clock } from "./format.js";
import { matches } from "./log_source.js";

const MOST_LINES = 5_000; // in the document
const CHUNK = 500; // lines in one element: a browser lays out anew what has changed, and these have not
const AT_END = 24; // pixels from the end at which a reader still follows

function element(name, className, text = "") {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
}

/** The text of a line with what was searched for marked. */
function marked(text, wanted) {
  const span = element("span", "log-text");
  if (!wanted) {
    span.textContent = text;
    return span;
  }
  const low = text.toLowerCase();
  let from = 0;
  for (let at = low.indexOf(wanted); at >= 0; at = low.indexOf(wanted, from)) {
    span.append(text.slice(from, at), element("mark", "", text.slice(at, at + wanted.length)));
    from = at + wanted.length;
  }
  span.append(text.slice(from));
  return span;
}

export class LogView {
  /**
   * @param {HTMLElement} root is filled
   * @param {object} options
   * @param {string} options.label what a screen reader calls it
   * @param {import("./log_source.js").LogSource} options.source
   * @param {((reporter: string) => {name: string, hue: number})|null} options.who names reporters; null: no names shown
   */
  constructor(root, { label, source, who = null }) {
    this.source = source;
    this.who = who;
    this.filter = null;
    this.ids = new Set();
    this.more = false;
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
    this.jump.addEventListener("click", () => this.#follow());
    source.follow(this);
  }

  /** Show the lines that match `{reporter, level, text}`. */
  show(filter) {
    this.filter = filter;
    return this.reload();
  }

  /** Fetch anew; what arrives meanwhile is kept. */
  async reload() {
    if (!this.filter) return;
    this.request?.abort();
    this.request = new AbortController();
    this.loading = [];
    this.#say("Loading");
    try {
      const { lines, more } = await this.source.fetch(this.filter, this.request.signal);
      const live = this.loading;
      this.loading = null;
      this.ids.clear();
      this.scroller.replaceChildren();
      this.more = more;
      this.#append([...lines, ...live]);
      this.#follow();
    } catch (error) {
      if (error.name === "AbortError") return;
      this.loading = null;
      this.#say("The log could not be fetched. Check your connection, then choose it again.");
    }
  }

  /** Take in lines from the socket. */
  arrived(lines) {
    if (!this.filter) return;
    const mine = lines.filter((line) => matches(line, this.filter));
    if (mine.length === 0) return;
    if (this.loading) this.loading.push(...mine);
    else this.#append(mine);
  }

  #append(lines) {
    const fresh = this.#unknown(lines);
    for (let from = 0; from < fresh.length; ) {
      let chunk = this.scroller.lastElementChild;
      if (!chunk || chunk.childElementCount >= CHUNK) this.scroller.append((chunk = element("div", "")));
      const rows = fresh.slice(from, from + CHUNK - chunk.childElementCount).map((line) => this.#row(line));
      chunk.append(...rows);
      from += rows.length;
    }
    if (this.following) {
      this.#trim();
      this.scroller.scrollTop = this.scroller.scrollHeight;
    } else {
      this.unseen += fresh.length;
      this.#showJump();
    }
    this.#describe();
  }

  /** Those of the lines that are not shown yet, each once; from now on they count as shown. */
  #unknown(lines) {
    return lines.filter(({ id }) => !this.ids.has(id) && this.ids.add(id));
  }

  // Only at the end is the start cut: what somebody reads stays where it is.
  #trim() {
    while (this.ids.size > MOST_LINES) {
      const chunk = this.scroller.firstElementChild;
      for (const row of chunk.children) this.ids.delete(Number(row.dataset.id));
      chunk.remove();
      this.more = true;
    }
  }

  /** Whether no more lines fit into the document. */
  get #full() {
    return this.ids.size > MOST_LINES - CHUNK;
  }

  #row(line) {
    const row = element("div", "log-line");
    row.dataset.id = line.id;
    if (line.level) row.dataset.level = line.level;
    if (line.stream === "stderr") row.dataset.stream = "stderr";
    row.append(element("span", "log-time", clock(line.time)));
    if (this.who) {
      const { name, hue } = this.who(line.reporter);
      const tag = element("span", "log-who", name);
      tag.title = name;
      tag.dataset.hue = hue;
      row.append(tag);
    }
    row.append(marked(line.text, this.filter.text?.toLowerCase()));
    return row;
  }

  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.scroller;
    this.following = scrollHeight - scrollTop - clientHeight <= AT_END;
    if (this.following) this.unseen = 0;
    this.#showJump();
    if (scrollTop < 40 && this.more && !this.loading && scrollHeight > clientHeight) this.#older();
  }

  async #older() {
    if (this.fetchingOlder || this.#full) return;
    this.fetchingOlder = true;
    const filter = this.filter;
    try {
      const before = this.scroller.querySelector(".log-line").dataset.id;
      const { lines, more } = await this.source.fetch({ ...filter, before });
      if (filter !== this.filter) return;
      const fresh = this.#unknown(lines);
      const height = this.scroller.scrollHeight;
      const top = this.scroller.scrollTop;
      const chunk = element("div", "");
      chunk.append(...fresh.map((line) => this.#row(line)));
      this.scroller.prepend(chunk);
      this.scroller.scrollTop = top + this.scroller.scrollHeight - height;
      this.more = more;
      this.#describe();
    } catch {
      this.#say("Older lines could not be fetched. Scroll up to try again.");
    } finally {
      this.fetchingOlder = false;
    }
  }

  #follow() {
    this.following = true;
    this.unseen = 0;
    this.scroller.scrollTop = this.scroller.scrollHeight;
    this.#showJump();
  }

  #showJump() {
    this.jump.hidden = this.following;
    const words = this.unseen > 0 ? `${this.unseen} new` : "To the end";
    this.jump.lastElementChild.textContent = words;
  }

  #describe() {
    const count = this.ids.size;
    if (count === 0) {
      const filtered = this.filter.text || this.filter.level;
      this.#say(filtered ? "No line matches." : "Nothing has been written yet. Lines appear here as they come.");
    } else if (this.more && this.#full) {
      this.#say(`The last ${count.toLocaleString("en")} lines. Download the log for all of it.`);
    } else {
      this.#say("");
    }
  }

  #say(text) {
    this.note.textContent = text;
    this.note.hidden = text === "";
    this.note.classList.toggle("is-alone", this.ids.size === 0);
  }
}
