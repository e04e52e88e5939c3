// The form of a configuration: packages and data that are uploaded on their own, and rows that the server draws anew.
import { showProblems } from "./problems.js";
import { setUpRowTypes } from "./rows.js";
import { guardUnsaved } from "./unsaved.js";

const form = document.getElementById("configuration-form");
const submit = form.querySelector("button[type=submit]");
const uploading = new Set();

function part(input) {
  return input.dataset.uploadKind ?? "data";
}

function field(name) {
  return form.elements.namedItem(name);
}

function answerOf(input) {
  try {
    return JSON.parse(input.uploadRequest.responseText);
  } catch {
    return {};
  }
}

/** Saving waits for uploads, since they would be missing. */
function setUploading(input, isUploading) {
  if (isUploading) uploading.add(input);
  else uploading.delete(input);
  submit.disabled = uploading.size > 0;
  submit.title = submit.disabled ? "Wait until the upload is done" : "";
}

function packageArrived(kind, answer) {
  const hidden = field(`${kind}_package`);
  const before = hidden.value;
  hidden.value = answer.sha256;
  htmx.ajax("POST", form.dataset.draftUrl, {
    source: form,
    target: "#draft",
    swap: "outerHTML",
    values: { package_new: kind, package_before: before },
  });
}

function showData(token, words) {
  field("synthetic_data").value = token;
  document.querySelector("[data-data-name]").textContent = words;
  document.getElementById("data-chosen").hidden = token === "";
  form.dispatchEvent(new Event("change", { bubbles: true })); // the preview follows
}

form.addEventListener("upload:start", (event) => {
  setUploading(event.target, true);
  showProblems(document.getElementById(`refused-${part(event.target)}`), []);
});

form.addEventListener("upload:done", (event) => {
  const input = event.target;
  const { data, file } = event.detail;
  setUploading(input, false);
  if (part(input) === "data") showData(data.token, file.name);
  else packageArrived(part(input), data);
});

form.addEventListener("upload:failed", (event) => {
  setUploading(event.target, false);
  const problems = answerOf(event.target).problems ?? [];
  // A single problem stands under the progress bar already.
  showProblems(document.getElementById(`refused-${part(event.target)}`), problems.length > 1 ? problems : []);
});

form.addEventListener("click", (event) => {
  const button = event.target.closest("[data-data-remove]");
  if (!button) return;
  showData("", "");
  const input = document.getElementById("upload-data");
  input.value = "";
  input.parentElement.querySelector(".upload-status")?.remove();
  input.focus();
});

form.querySelector("[data-focus-first]")?.focus();
setUpRowTypes(form);
guardUnsaved(form);
