// The controls above the figures of a tab. What they say stands in the address, so that a link shows the same, and is
// kept on the server for its user and project.
import { csrfToken } from "../csrf.js";
import { showToast } from "../toast.js";
import { addressRead, addressWrite, textsKept, viewDefault, viewRead, viewTexts } from "./chart_state.js";
import { setText } from "./dom.js";

const SAVE_AFTER = 800; // milliseconds of quiet

/**
 * Run the controls of a tab with figures.
 *
 * @param {HTMLElement} root the tab, with the elements of templates/runs/tabs/_chart_tools.html
 * @param {"metric"|"system"} kind of the figures
 * @param {{url: string, saved: Object<string, string>|null}} kept where the user's view is kept, and what it was
 * @param {() => void} changed called after each change
 * @returns {{view: object, set: (some: object, save?: boolean) => void}} `view` (chart_state.js) is always the same
 *   object; `set` changes it, and with it the controls and the address
 */
export function chartViewStart(root, kind, kept, changed) {
  const view = viewDefault(kind);
  const one = (name) => root.querySelector(`[data-chart-${name}]`);
  const controls = {
    axes: [...root.querySelectorAll("[data-axis]")],
    devices: one("devices"),
    smoothing: one("smoothing"),
    logarithmic: one("log"),
    robust: one("robust"),
    columns: one("columns"),
    find: one("find"),
    regex: one("regex"),
    zoom: one("unzoom"),
  };
  let timer = 0;

  function showControls() {
    for (const button of controls.axes) {
      const chosen = button.dataset.axis === view.axis;
      button.setAttribute("aria-pressed", String(chosen));
      button.classList.toggle("active", chosen);
    }
    controls.devices.value = view.devices;
    controls.smoothing.value = view.smoothing;
    setText(one("smoothing-value"), view.smoothing ? view.smoothing.toFixed(2) : "off");
    controls.logarithmic.checked = view.logarithmic;
    controls.robust.checked = view.robust;
    controls.columns.value = view.columns;
    if (controls.find.value !== view.find) controls.find.value = view.find;
    controls.regex.setAttribute("aria-pressed", String(view.regex));
    controls.regex.classList.toggle("active", view.regex);
    const wrong = view.regex && patternOf(view) === null;
    controls.find.classList.toggle("is-invalid", wrong);
    controls.find.setAttribute("aria-invalid", String(wrong));
    controls.find.title = wrong ? "This is no regular expression: all panels are shown" : "";
    controls.zoom.hidden = view.zoom === null;
  }

  function remember(explicit = false) {
    const url = new URL(window.location.href);
    addressWrite(url, kind, viewTexts(view, kind), explicit);
    if (url.href !== window.location.href) window.history.replaceState(window.history.state, "", url);
    return url;
  }

  async function send(method, body) {
    const headers = { "X-CSRFToken": csrfToken(), "Content-Type": "application/json" };
    try {
      const response = await fetch(kept.url, { method, headers, body, keepalive: true });
      if (!response.ok) throw new Error(await response.text());
    } catch {
      showToast({ level: "warning", text: "This view of the charts could not be kept. It still stands in the address." });
    }
  }

  function saveLater() {
    clearTimeout(timer);
    timer = setTimeout(() => send("PUT", JSON.stringify(textsKept(viewTexts(view, kind)))), SAVE_AFTER);
  }

  function set(some, save = true) {
    const before = JSON.stringify(textsKept(viewTexts(view, kind)));
    Object.assign(view, some);
    showControls();
    remember();
    if (save && JSON.stringify(textsKept(viewTexts(view, kind))) !== before) saveLater();
    changed();
  }

  for (const button of controls.axes) button.addEventListener("click", () => set({ axis: button.dataset.axis, zoom: null }));
  controls.devices.addEventListener("change", () => set({ devices: controls.devices.value }));
  controls.smoothing.addEventListener("input", () => set({ smoothing: Number(controls.smoothing.value) }));
  controls.logarithmic.addEventListener("change", () => set({ logarithmic: controls.logarithmic.checked }));
  controls.robust.addEventListener("change", () => set({ robust: controls.robust.checked }));
  controls.columns.addEventListener("change", () => set({ columns: Number(controls.columns.value) }));
  controls.find.addEventListener("input", () => set({ find: controls.find.value }));
  controls.regex.addEventListener("click", () => set({ regex: !view.regex }));
  controls.zoom.addEventListener("click", () => set({ zoom: null }));
  // copy.js copies what stands there once the click has come to the document.
  one("link").addEventListener("click", (event) => {
    event.currentTarget.dataset.copy = remember(true).href;
  });
  one("reset").addEventListener("click", () => {
    viewRead(view, kind, {});
    clearTimeout(timer);
    send("DELETE");
    set({}, false);
  });

  viewRead(view, kind, addressRead(new URL(window.location.href), kind) ?? kept.saved ?? {});
  showControls();
  return { view, set };
}

/** By what panels are found: a function of a name, or null where the regular expression is wrong. */
export function patternOf({ find, regex }) {
  if (find === "") return () => true;
  if (!regex) {
    const wanted = find.toLowerCase();
    return (name) => name.toLowerCase().includes(wanted);
  }
  try {
    const pattern = new RegExp(find, "i");
    return (name) => pattern.test(name);
  } catch {
    return null;
  }
}
