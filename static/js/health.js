// The health page: one sentence above the answers that come in one by one, and what to say where none can be fetched.

const summary = document.getElementById("health-summary");

function counted(level) {
  return document.querySelectorAll(`#checks [data-level="${level}"]`).length;
}

function words() {
  const waiting = document.querySelectorAll("#checks [data-waiting]").length;
  if (waiting > 0) return `Checking, ${waiting} to go`;
  const failed = counted("failed");
  const warning = counted("warning");
  if (failed > 0) return failed === 1 ? "No: one check failed." : `No: ${failed} checks failed.`;
  if (warning > 0) return "Yes, but something should be looked at.";
  return "Yes, as far as the checks can tell.";
}

function update() {
  const text = words();
  if (summary.textContent !== text) summary.textContent = text;
}

function failed(event) {
  const row = event.detail.elt.closest("tr[data-check]");
  if (row === null) return;
  const status = event.detail.xhr?.status;
  const badge = row.querySelector(".state");
  badge.className = "state state-red";
  badge.removeAttribute("data-waiting");
  badge.querySelector(".state-label").textContent = "Failed";
  row.dataset.level = "failed";
  row.lastElementChild.textContent =
    (status ? `The platform answers with an error (${status}).` : "The platform does not answer.") +
    " Run manage.py preflight on the server.";
  update();
}

document.addEventListener("htmx:responseError", failed);
document.addEventListener("htmx:sendError", failed);
document.addEventListener("htmx:timeout", failed);
document.addEventListener("htmx:afterSwap", update);
update();
