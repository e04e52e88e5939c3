// Ask before the page is left with values that were typed and not saved.

/** Watch `form`, whose values may also be changed by fragments of the server. */
export function guardUnsaved(form) {
  let isChanged = form.querySelector("[data-focus-first]") !== null; // came back with errors: nothing is saved yet
  const changed = () => {
    isChanged = true;
  };
  form.addEventListener("input", changed);
  form.addEventListener("upload:done", changed);
  form.addEventListener("submit", () => {
    isChanged = false;
  });
  window.addEventListener("beforeunload", (event) => {
    if (isChanged) event.preventDefault();
  });
}
