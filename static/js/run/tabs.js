// Tabs by the WAI-ARIA pattern. The open tab stands in the address (?tab=), so that a link shows the same.

/**
 * Make the tabs below `root` work.
 *
 * @param {HTMLElement} root holds one [role=tablist] whose tabs name their panels by aria-controls
 * @param {(name: string) => void} shown called with the name of the tab that was opened, also for the first one
 * @param {string|null} parameter name in the address; null: the address stays as it is
 */
export function tabsStart(root, shown = () => {}, parameter = null) {
  const list = root.querySelector("[role=tablist]");
  const tabs = [...list.querySelectorAll("[role=tab]")];

  function select(tab, focus) {
    for (const other of tabs) {
      const chosen = other === tab;
      other.setAttribute("aria-selected", String(chosen));
      other.tabIndex = chosen ? 0 : -1;
      other.classList.toggle("active", chosen);
      document.getElementById(other.getAttribute("aria-controls")).hidden = !chosen;
    }
    if (focus) tab.focus();
    tab.scrollIntoView({ block: "nearest", inline: "nearest" });
    if (parameter !== null) {
      const url = new URL(window.location.href);
      if (tab === tabs[0]) url.searchParams.delete(parameter);
      else url.searchParams.set(parameter, tab.dataset.tab);
      if (url.href !== window.location.href) window.history.replaceState(window.history.state, "", url);
    }
    shown(tab.dataset.tab);
  }

  list.addEventListener("click", (event) => {
    const tab = event.target.closest("[role=tab]");
    if (!tab || event.metaKey || event.ctrlKey || event.shiftKey) return;
    event.preventDefault();
    select(tab, false);
  });
  list.addEventListener("keydown", (event) => {
    const index = tabs.indexOf(event.target.closest("[role=tab]"));
    if (index < 0) return;
    const targets = { ArrowRight: index + 1, ArrowLeft: index - 1, Home: 0, End: tabs.length - 1 };
    if (!(event.key in targets)) return;
    event.preventDefault();
    select(tabs[(targets[event.key] + tabs.length) % tabs.length], true);
  });

  const first = tabs.find((tab) => tab.getAttribute("aria-selected") === "true") ?? tabs[0];
  select(first, false);
  return {
    open(name) {
      const tab = tabs.find((candidate) => candidate.dataset.tab === name);
      if (tab) select(tab, false);
    },
  };
}
