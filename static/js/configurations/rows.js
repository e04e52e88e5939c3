// What to type into a row, by its type: shown in the empty value field, with the keyboard that fits on a phone.

const HINTS = {
  integer: { placeholder: "8", inputMode: "numeric" },
  float: { placeholder: "0.03 or 1e-3", inputMode: "decimal" },
  string: { placeholder: "text, or ${...}", inputMode: "text" },
  boolean: { placeholder: "true or false", inputMode: "text" },
  list: { placeholder: "[64, 32]", inputMode: "text" },
  null: { placeholder: "no value", inputMode: "text" },
};

function hint(select) {
  const value = select.closest(".conf-row").querySelector("input[name$='-value']");
  const { placeholder, inputMode } = HINTS[select.value] ?? HINTS.string;
  value.placeholder = placeholder;
  // An expression may stand in a number's row only as Text, so that the plain keyboard is no loss there.
  value.inputMode = inputMode;
}

/** Give every row of `form` its hints, also those that the server draws later. */
export function setUpRowTypes(form) {
  const all = () => form.querySelectorAll("[data-row-type]").forEach(hint);
  form.addEventListener("change", (event) => {
    if (event.target.matches("[data-row-type]")) hint(event.target);
  });
  document.addEventListener("htmx:afterSettle", all);
  all();
}
