// The Logs tab: whose log, which level, what to search for, where the errors are. The choice stands in the address.
import { showToast } from "../toast.js";
import { errorsStart } from "./log_errors.js";
import { LogView } from "./log_view.js";

const SEARCH_AFTER = 250; // milliseconds without a key

/**
 * @param {HTMLElement} root the [data-logs] card
 * @param {import("./store.js").Store} store
 * @param {import("./log_source.js").LogSource} source
 */
export function logsStart(root, store, source) {
  const reporter = root.querySelector("[data-log-reporter]");
  const level = root.querySelector("[data-log-level]");
  const search = root.querySelector("[data-log-search]");
  const wrap = root.querySelector("[data-log-wrap]");
  const download = root.querySelector("[data-log-download]");
  const frame = root.querySelector("[data-log-view]");
  const follow = root.querySelector("[data-log-follow]");
  const view = new LogView(frame, { label: "Log", source, who, onFollow });
  const errors = errorsStart(root, store, { who, open: openError });
  let timer = 0;
  let started = false;

  function who(name) {
    const [kind, id] = name.split(":");
    if (kind === "stage") return { name: store.stages.get(id)?.label ?? id, hue: 0 };
    if (kind === "server") return { name: "Aggregator", hue: 1 };
    const edgeId = Number(id);
    return { name: store.reporterName(edgeId), hue: 2 + ((store.devices.get(edgeId)?.client_index ?? 0) % 6) };
  }

  function onFollow(following) {
    follow.setAttribute("aria-pressed", String(following));
    follow.querySelector("span").textContent = following ? "Following" : "Paused";
  }

  /** Show an error among all lines: what led to it was written by others, and at other levels. */
  async function openError({ id }) {
    if (level.value || search.value) {
      level.value = "";
      search.value = "";
      await show();
    }
    await view.goTo(id);
  }

  async function step(forward) {
    try {
      if (!(await view.goToError(forward))) showToast({ level: "info", text: forward ? "No further error." : "No earlier error." });
    } catch {
      showToast({ level: "error", text: "The log could not be fetched. Check your connection, then try again." });
    }
  }

  function show() {
    started = true;
    const filter = { reporter: reporter.value, level: level.value, text: search.value };
    const url = new URL(window.location.href);
    for (const [key, value] of Object.entries({ reporter: filter.reporter, level: filter.level, q: filter.text })) {
      if (value) url.searchParams.set(key, value);
      else url.searchParams.delete(key);
    }
    window.history.replaceState(window.history.state, "", url);
    const file = new URL(download.href);
    if (filter.reporter) file.searchParams.set("reporter", filter.reporter);
    else file.searchParams.delete("reporter");
    download.href = file.href;
    frame.classList.toggle("is-single", filter.reporter !== "");
    return view.show(filter);
  }

  const { searchParams } = new URL(window.location.href);
  for (const [input, key] of [[reporter, "reporter"], [level, "level"], [search, "q"]]) {
    const value = searchParams.get(key);
    if (value && (input === search || [...input.options].some((option) => option.value === value))) input.value = value;
  }
  follow.addEventListener("click", () => (view.following ? view.pause() : view.toEnd()));
  root.querySelector("[data-log-error-next]").addEventListener("click", () => step(true));
  root.querySelector("[data-log-error-previous]").addEventListener("click", () => step(false));
  reporter.addEventListener("change", show);
  level.addEventListener("change", show);
  search.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(show, SEARCH_AFTER);
  });
  wrap.addEventListener("click", () => {
    const wrapped = frame.classList.toggle("is-unwrapped") === false;
    wrap.setAttribute("aria-pressed", String(wrapped));
  });
  root.querySelector("[data-log-full]").addEventListener("click", () => {
    if (document.fullscreenElement) document.exitFullscreen();
    else root.requestFullscreen();
  });

  return {
    /** Called when the tab is opened; the first time fetches. */
    opened() {
      if (!started) show();
      errors.load();
    },
    /** Show the log of one reporter. */
    open(name) {
      reporter.value = name;
      show();
    },
  };
}
