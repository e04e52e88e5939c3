// A fragment that was asked for after the session has ended is the sign-in page: show that, whole, and not inside a list.
document.addEventListener("htmx:beforeSwap", (event) => {
  const answered = event.detail.xhr.responseURL;
  const asked = new URL(event.detail.pathInfo.finalRequestPath, location.href);
  if (!answered || new URL(answered).pathname === asked.pathname) return;
  event.detail.shouldSwap = false;
  location.reload();
});
