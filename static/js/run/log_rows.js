// Log lines as elements.
import { clock } from "./format.js";

/** An element of a class with a text. */
export function element(name, className, text = "") {
  return Object.assign(document.createElement(name), { className, textContent: text });
}

/** The text of a line with what was searched for (in lower case) marked. */
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

/**
 * The row of a line.
 *
 * @param {object} line of log_source.js
 * @param {((reporter: string) => {name: string, hue: number})|null} who names reporters; null: no names shown
 * @param {string|undefined} wanted what was searched for
 */
export function rowOf(line, who, wanted) {
  const row = element("div", "log-line");
  row.dataset.id = line.id;
  if (line.level) row.dataset.level = line.level;
  if (line.stream === "stderr") row.dataset.stream = "stderr";
  row.append(element("span", "log-time", clock(line.time)));
  if (who) {
    const { name, hue } = who(line.reporter);
    const tag = element("span", "log-who", name);
    tag.title = name;
    tag.dataset.hue = hue;
    row.append(tag);
  }
  row.append(marked(line.text, wanted?.toLowerCase()));
  return row;
}
