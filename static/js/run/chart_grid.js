// Where panels stand: in sections by the prefix of their names, in an order and in sizes that can be changed.
import { icon } from "../icons.js";
import { patternOf } from "./chart_view.js";
import { element, setText } from "./dom.js";

// Before all others, in this order; the rest follows by name.
const FIRST = {
  metric: [/acc/i, /loss/i],
  system: [/^cpu_/, /^system_memory/, /^gpu\..*utilization$/, /^gpu/, /^process_cpu_util/, /^process_memory_in/, /^network/, /^disk/],
};
const UNNAMED = { metric: "Metrics", system: "Machine" };

function rank(kind, name) {
  const place = FIRST[kind].findIndex((pattern) => pattern.test(name));
  return place < 0 ? FIRST[kind].length : place;
}

/** The section of a panel: what stands before the first slash of a metric's name, and the part of a machine. */
export function sectionOf({ kind, names, added }) {
  if (added) return "Own panels";
  const [name] = names;
  if (kind === "metric") return name.includes("/") ? name.slice(0, name.indexOf("/")) : UNNAMED.metric;
  const gpu = /^gpu\.(\d{1,4})\./.exec(name);
  if (gpu) return `GPU ${gpu[1]}`;
  if (name.startsWith("process_")) return "Instance";
  return name.startsWith("network_") ? "Network" : UNNAMED.system;
}

export class ChartGrid {
  /**
   * @param {HTMLElement} root
   * @param {"metric"|"system"} kind
   * @param {object} view see chart_state.js
   * @param {(some: object) => void} set changes the view
   */
  constructor(root, kind, view, set) {
    Object.assign(this, { root, kind, view, set });
    this.sections = new Map();
    this.none = element("p", "chart-none", "No panel matches.");
    this.none.hidden = true;
    root.append(this.none);
    this.dragged = null;
    root.addEventListener("dragstart", (event) => this.#dragStart(event));
    root.addEventListener("dragover", (event) => this.#dragOver(event));
    root.addEventListener("drop", (event) => this.#drop(event));
    root.addEventListener("dragend", () => this.#dragEnd());
  }

  /** Put those of the panels that the view shows into their places. */
  arrange(panels) {
    const matches = patternOf(this.view) ?? (() => true);
    const shown = this.#sorted(
      panels.filter((panel) => !this.view.removed.has(panel.key) && [panel.title, ...panel.figure.names].some(matches)),
    );
    const groups = new Map();
    for (const panel of shown) {
      const name = sectionOf(panel.figure);
      if (!groups.has(name)) groups.set(name, []);
      groups.get(name).push(panel);
    }
    for (const [name, { root }] of this.sections) if (!groups.has(name)) root.remove();
    let previous = this.none;
    for (const name of this.#sectionsSorted([...groups.keys()])) {
      const section = this.#section(name);
      if (previous.nextElementSibling !== section.root) previous.after(section.root);
      previous = section.root;
      this.#fill(section, groups.get(name), groups.size > 1);
    }
    this.none.hidden = shown.length > 0 || panels.length === 0;
    this.root.style.setProperty("--columns", this.view.columns);
    for (const panel of shown) this.sized(panel, panel.size);
  }

  /** Show a panel in a size. */
  sized(panel, [columns, height]) {
    panel.root.style.setProperty("--span", Math.min(columns, this.view.columns));
    panel.root.style.setProperty("--height", `${height}px`);
  }

  /** Move a panel by so many places within its section. */
  move(panel, by) {
    const grid = panel.root.parentElement;
    const keys = [...grid.children].map((each) => each.dataset.figure);
    const place = keys.indexOf(panel.key);
    const wanted = Math.min(keys.length - 1, Math.max(0, place + by));
    keys.splice(wanted, 0, ...keys.splice(place, 1));
    this.#reorder(keys);
  }

  #usual(panels) {
    return [...panels].sort((a, b) => {
      const [one, other] = [a.figure.names[0], b.figure.names[0]];
      return rank(this.kind, one) - rank(this.kind, other) || one.localeCompare(other, "en", { numeric: true });
    });
  }

  #sorted(panels) {
    const places = new Map(this.view.order.map((key, index) => [key, index]));
    const place = (panel) => places.get(panel.key) ?? Infinity;
    return this.#usual(panels).sort((a, b) => (place(a) === place(b) ? 0 : place(a) - place(b)));
  }

  #sectionsSorted(names) {
    const first = ["Own panels", UNNAMED[this.kind]];
    const place = (name) => (first.includes(name) ? first.indexOf(name) : first.length);
    return names.sort((a, b) => place(a) - place(b) || a.localeCompare(b, "en", { numeric: true }));
  }

  #section(name) {
    const existing = this.sections.get(name);
    if (existing) return existing;
    const count = element("span", "chart-section-count");
    const head = element("button", "chart-section-head", icon("chevron-down"), element("span", "chart-section-name", name), count);
    head.type = "button";
    head.addEventListener("click", () => {
      const closed = new Set(this.view.closed);
      if (!closed.delete(name)) closed.add(name);
      this.set({ closed });
    });
    const grid = element("div", "chart-grid");
    const section = { name, head, count, grid, root: element("section", "chart-section", head, grid), panels: [] };
    this.sections.set(name, section);
    return section;
  }

  #fill(section, panels, headed) {
    section.panels = panels;
    const closed = headed && this.view.closed.has(section.name);
    section.head.hidden = !headed;
    section.head.setAttribute("aria-expanded", String(!closed));
    section.grid.hidden = closed;
    setText(section.count, String(panels.length));
    if (this.dragged) return; // somebody holds one of them
    const wanted = panels.map((panel) => panel.root);
    if (wanted.length !== section.grid.children.length || wanted.some((root, index) => section.grid.children[index] !== root)) {
      section.grid.replaceChildren(...wanted);
    }
  }

  // Only what differs from the usual order is kept: the keys up to the last one that stands elsewhere.
  #reorder(keys) {
    const section = [...this.sections.values()].find(({ panels }) => panels.some((panel) => panel.key === keys[0]));
    const usual = this.#usual(section.panels).map((panel) => panel.key);
    let length = keys.length;
    while (length > 0) {
      const first = new Set(keys.slice(0, length - 1));
      const rest = usual.filter((key) => !first.has(key));
      if (rest.some((key, index) => keys[length - 1 + index] !== key)) break;
      length -= 1;
    }
    const others = this.view.order.filter((key) => !keys.includes(key));
    this.set({ order: [...others, ...keys.slice(0, length)] });
  }

  #dragStart(event) {
    const head = event.target.closest?.(".chart-head");
    if (!head) return;
    this.dragged = head.closest(".chart");
    event.dataTransfer.effectAllowed = "move";
    event.dataTransfer.setData("text/plain", this.dragged.dataset.figure);
    requestAnimationFrame(() => this.dragged?.classList.add("is-dragged"));
  }

  #dragOver(event) {
    if (!this.dragged) return;
    const target = event.target.closest(".chart");
    if (!target || target.parentElement !== this.dragged.parentElement) return;
    event.preventDefault();
    if (target === this.dragged) return;
    const after = this.dragged.compareDocumentPosition(target) & Node.DOCUMENT_POSITION_FOLLOWING;
    if (after) target.after(this.dragged);
    else target.before(this.dragged);
  }

  #drop(event) {
    if (!this.dragged) return;
    event.preventDefault();
    const keys = [...this.dragged.parentElement.children].map((each) => each.dataset.figure);
    this.#dragEnd();
    this.#reorder(keys);
  }

  #dragEnd() {
    this.dragged?.classList.remove("is-dragged");
    if (this.dragged) {
      this.dragged = null;
      this.set({});
    }
  }
}
