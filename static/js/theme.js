// The theme: "light", "dark" or "auto" (as the system), kept per browser. A classic script in <head>, so that the page is
// never painted in the other theme first.
"use strict";
{
  const KEY = "roundtable-theme";
  const system = matchMedia("(prefers-color-scheme: dark)");
  const root = document.documentElement;

  function stored() {
    try {
      const choice = localStorage.getItem(KEY);
      return choice === "light" || choice === "dark" ? choice : "auto";
    } catch {
      return "auto"; // storage is switched off in this browser
    }
  }

  function apply() {
    const choice = stored();
    const theme = choice === "auto" ? (system.matches ? "dark" : "light") : choice;
    const changed = root.dataset.bsTheme && root.dataset.bsTheme !== theme;
    root.dataset.bsTheme = theme;
    root.dataset.themeChoice = choice;
    for (const button of document.querySelectorAll("[data-theme-choice]")) {
      if (button === root) continue;
      button.classList.toggle("active", button.dataset.themeChoice === choice);
      button.setAttribute("aria-pressed", String(button.dataset.themeChoice === choice));
    }
    // Figures have their colours from Python and are drawn anew by whoever listens.
    if (changed) document.dispatchEvent(new CustomEvent("roundtable:theme", { detail: { theme } }));
  }

  apply();
  document.addEventListener("DOMContentLoaded", apply);
  system.addEventListener("change", apply);
  addEventListener("storage", (event) => event.key === KEY && apply()); // another tab chose
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-theme-choice]");
    if (!button) return;
    try {
      localStorage.setItem(KEY, button.dataset.themeChoice);
    } catch {
      // not kept, then
    }
    apply();
  });
}
