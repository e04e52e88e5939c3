// The page's buttons: their forms are sent without leaving the page; what they did arrives over the socket.
// A form that asks first (data-confirm) comes here after the answer.
import { showToast } from "../toast.js";

async function send(form) {
  const response = await fetch(form.action, {
    method: "POST",
    body: new FormData(form),
    headers: { Accept: "application/json" },
    redirect: "manual", // to the login page, when the session has ended
  });
  if (response.ok) return "";
  if (response.headers.get("Content-Type")?.startsWith("application/json")) return (await response.json()).error;
  return response.status === 403 || response.type === "opaqueredirect"
    ? "You may not do this, or your session has ended. Reload the page."
    : `The server answered with an error (${response.status}). Reload the page, then try again.`;
}

/** Take over the forms with data-run-action, and the dialogs that buttons open. */
export function actionsStart() {
  document.addEventListener("submit", async (event) => {
    const form = event.target.closest("form[data-run-action]");
    if (!form || event.defaultPrevented) return;
    event.preventDefault();
    const buttons = form.querySelectorAll("button");
    for (const button of buttons) button.disabled = true;
    try {
      const refusal = await send(form);
      if (refusal) showToast({ level: "error", text: refusal });
      else form.closest("dialog")?.close();
    } catch {
      showToast({ level: "error", text: "The server cannot be reached. Check your connection, then try again." });
    } finally {
      for (const button of buttons) button.disabled = false;
    }
  });
  document.addEventListener("click", (event) => {
    const opener = event.target.closest("[data-open-dialog]");
    if (opener) {
      const dialog = document.getElementById(opener.dataset.openDialog);
      dialog.showModal();
      dialog.querySelector("input:not([type=hidden])")?.select();
    }
    if (event.target.closest("[data-close-dialog]")) event.target.closest("dialog").close();
  });
}
