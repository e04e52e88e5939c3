// Lists that fetch themselves anew when something that they show has changed:
//
//   <div data-refresh-on="run" hx-get="/projects/3/runs/" hx-trigger="refresh">
//
// Badges change at once (updates.js); this brings the rest, at most every two seconds, and not while the tab is hidden.

const LEAST_MS = 2000;
const pending = new WeakMap();

function refresh(element) {
  if (pending.has(element)) return;
  const send = () => {
    pending.delete(element);
    if (document.hidden) document.addEventListener("visibilitychange", () => refresh(element), { once: true });
    else if (element.isConnected) htmx.trigger(element, "refresh");
  };
  const ago = Date.now() - Number(element.dataset.refreshedAt ?? 0);
  pending.set(element, setTimeout(send, Math.max(200, LEAST_MS - ago)));
  element.dataset.refreshedAt = String(Date.now());
}

document.addEventListener("roundtable:update", (event) => {
  for (const element of document.querySelectorAll("[data-refresh-on]")) {
    if (element.dataset.refreshOn.split(" ").includes(event.detail.kind)) refresh(element);
  }
});
document.addEventListener("roundtable:reconnected", () => {
  document.querySelectorAll("[data-refresh-on]").forEach(refresh);
});
