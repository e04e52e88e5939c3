// The errors of the run, equal ones together, beside the log: a click goes to the last one of its kind.
import { icon } from "../icons.js";
import { clock, printable } from "./format.js";
import { element } from "./log_rows.js";

const AGAIN_AFTER = 3_000; // milliseconds between two looks while errors come in

/**
 * @param {HTMLElement} root the [data-logs] card
 * @param {import("./store.js").Store} store
 * @param {object} how
 * @param {(reporter: string) => {name: string}} how.who names reporters
 * @param {(error: {id: number}) => void} how.open shows a line
 */
export function errorsStart(root, store, { who, open }) {
  const button = root.querySelector("[data-log-errors]");
  const count = button.querySelector("[data-log-error-count]");
  const panel = root.querySelector("[data-log-error-list]");
  let timer = 0;
  let fetchedAt = 0;

  async function load() {
    timer = 0;
    fetchedAt = Date.now();
    try {
      const response = await fetch(root.dataset.errorsUrl, { headers: { Accept: "application/json" } });
      if (!response.ok) return;
      show(await response.json());
    } catch {
      // The next error, or the next opening, tries again.
    }
  }

  function show({ groups, total, more }) {
    count.textContent = more ? `${total.toLocaleString("en")}+` : total.toLocaleString("en");
    button.classList.toggle("has-errors", total > 0);
    if (groups.length === 0) {
      panel.replaceChildren(element("p", "log-error-none", "No line of this run says that it is an error."));
      return;
    }
    const list = element("ul", "log-error-items");
    list.append(...groups.map(item));
    panel.replaceChildren(list);
  }

  function item(group) {
    const row = element("li", "");
    const link = element("button", "log-error");
    link.type = "button";
    const names = group.reporters.slice(0, 3).map((reporter) => printable(who(reporter).name));
    if (group.reporters.length > 3) names.push(`${group.reporters.length - 3} more`);
    const when = group.count > 1 ? `${clock(group.first_time)} to ${clock(group.last_time)}` : clock(group.last_time);
    link.append(
      element("span", "log-error-count", group.count > 1 ? `${group.count.toLocaleString("en")}×` : ""),
      element("span", "log-error-text", printable(group.line)),
      element("span", "log-error-where", `${names.join(", ")}, ${when}`),
    );
    link.addEventListener("click", () => open({ id: group.last_id }));
    row.append(link);
    return row;
  }

  function later() {
    if (timer === 0) timer = setTimeout(load, Math.max(0, fetchedAt + AGAIN_AFTER - Date.now()));
  }

  button.prepend(icon("alert-triangle"));
  button.addEventListener("click", () => {
    panel.hidden = !panel.hidden;
    button.setAttribute("aria-expanded", String(!panel.hidden));
    if (!panel.hidden) load();
  });
  store.on("log", (lines) => {
    if (lines.some(({ level }) => level === "ERROR") && root.offsetParent !== null) later();
  });
  return { load };
}
