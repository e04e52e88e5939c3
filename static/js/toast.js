// Toasts: what the server said on this page, and what happened elsewhere.
//
//   showToast({ level: "success" | "info" | "warning" | "error", text: "Run eye_rain finished", url: "/runs/7/" })
import { icon } from "./icons.js";

const ICONS = { success: "circle-check", info: "info-circle", warning: "alert-triangle", error: "alert-circle" };
const VISIBLE_MS = 7000;
const MOST_AT_ONCE = 4;

function dismissLater(toast) {
  // Errors stay until they are closed. The others wait while the pointer or the focus is on them.
  if (toast.classList.contains("rt-toast-error")) return;
  let timer = setTimeout(() => toast.remove(), VISIBLE_MS);
  for (const name of ["pointerenter", "focusin"]) toast.addEventListener(name, () => clearTimeout(timer));
  for (const name of ["pointerleave", "focusout"]) {
    toast.addEventListener(name, () => {
      clearTimeout(timer);
      timer = setTimeout(() => toast.remove(), VISIBLE_MS);
    });
  }
}

/** Show a toast; with `url`, its text is a link. */
export function showToast({ level = "info", text, url }) {
  const container = document.getElementById("toasts");
  if (!container) return;
  const kind = level in ICONS ? level : "info";
  const toast = document.createElement("div");
  toast.className = `toast show rt-toast rt-toast-${kind}`;
  toast.setAttribute("role", kind === "error" || kind === "warning" ? "alert" : "status");
  const body = document.createElement("div");
  body.className = "toast-body";
  const words = document.createElement(url ? "a" : "span");
  words.className = "flex-fill";
  words.textContent = text;
  if (url && new URL(url, location.href).origin === location.origin) words.setAttribute("href", url);
  const close = document.createElement("button");
  close.type = "button";
  close.className = "btn-close";
  close.dataset.dismissToast = "";
  close.setAttribute("aria-label", "Close");
  body.append(icon(ICONS[kind]), words, close);
  toast.append(body);
  container.append(toast);
  while (container.children.length > MOST_AT_ONCE) container.firstElementChild.remove();
  dismissLater(toast);
}

document.addEventListener("click", (event) => {
  event.target.closest("[data-dismiss-toast]")?.closest(".toast").remove();
});
document.querySelectorAll("#toasts .toast").forEach(dismissLater);

// A fragment that could not be fetched must not fail in silence.
document.addEventListener("htmx:sendError", () => {
  showToast({ level: "error", text: "The server cannot be reached. Check your connection, then try again." });
});
document.addEventListener("htmx:responseError", (event) => {
  const status = event.detail.xhr.status;
  const text =
    status === 403
      ? "You may not do this, or your session has ended. Reload the page."
      : `The server answered with an error (${status}). Reload the page, then try again.`;
  showToast({ level: "error", text });
});
