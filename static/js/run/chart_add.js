// Panels that can be added: those that were removed, and new ones that show several metrics.
import { element } from "./dom.js";
import { printable } from "./format.js";

const MOST_METRICS = 8; // in one panel

/**
 * Ask which panel to add.
 *
 * @param {{title: string, key: string}[]} removed
 * @param {string[]} names of all metrics of the tab
 * @returns {Promise<{restore: string}|{names: string[]}|null>} null: none
 */
export function panelAsk(removed, names) {
  const dialog = element("dialog", "rt-dialog chart-add");
  dialog.setAttribute("aria-labelledby", "chart-add-title");
  const heading = element("h2", "", "Add a panel");
  heading.id = "chart-add-title";
  const form = element("form", "");
  form.method = "dialog";
  const buttons = element("div", "rt-dialog-buttons");
  const cancel = element("button", "btn btn-ghost-secondary", "Cancel");
  const add = element("button", "btn btn-primary", "Add panel");
  cancel.type = "button";
  add.disabled = true;
  buttons.append(cancel, add);
  let answer = null;

  form.append(heading);
  if (removed.length) {
    const list = element("div", "chart-add-removed");
    for (const { key, title } of removed) {
      const bring = element("button", "btn btn-sm", title);
      bring.type = "button";
      bring.addEventListener("click", () => close({ restore: key }));
      list.append(bring);
    }
    form.append(element("h3", "chart-add-head", "Removed panels"), list);
  }
  const find = element("input", "form-control form-control-sm");
  Object.assign(find, { type: "search", placeholder: "Find a metric", autocomplete: "off" });
  find.setAttribute("aria-label", "Find a metric");
  const list = element("div", "chart-add-names");
  for (const name of names) {
    const box = element("input", "form-check-input");
    Object.assign(box, { type: "checkbox", value: name });
    list.append(element("label", "form-check", box, element("span", "form-check-label", printable(name))));
  }
  form.append(element("h3", "chart-add-head", `Metrics in one panel, at most ${MOST_METRICS}`), find, list, buttons);
  const chosen = () => [...list.querySelectorAll(":checked")].map((box) => box.value);
  find.addEventListener("input", () => {
    for (const label of list.children) label.hidden = !label.textContent.toLowerCase().includes(find.value.toLowerCase());
  });
  list.addEventListener("change", () => {
    const count = chosen().length;
    add.disabled = count === 0;
    for (const box of list.querySelectorAll("input:not(:checked)")) box.disabled = count >= MOST_METRICS;
  });
  function close(value) {
    answer = value;
    dialog.close();
  }
  cancel.addEventListener("click", () => close(null));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (chosen().length) close({ names: chosen() });
  });
  dialog.append(form);
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(answer);
    });
  });
}
