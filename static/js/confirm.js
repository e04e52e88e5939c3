// Ask before something is lost: <form data-confirm="What will be lost." data-confirm-title="Delete this run?"
// data-confirm-button="Delete">. htmx elements use hx-confirm="What will be lost." with the same other attributes.

function ask({ text, title, button }) {
  const dialog = document.createElement("dialog");
  dialog.className = "rt-dialog";
  dialog.setAttribute("aria-labelledby", "confirm-title");
  dialog.setAttribute("aria-describedby", "confirm-text");
  const form = document.createElement("form");
  form.method = "dialog";
  const heading = document.createElement("h2");
  heading.id = "confirm-title";
  heading.textContent = title || "Are you sure?";
  const words = document.createElement("p");
  words.id = "confirm-text";
  words.textContent = text;
  const buttons = document.createElement("div");
  buttons.className = "rt-dialog-buttons";
  const cancel = document.createElement("button");
  cancel.className = "btn btn-ghost-secondary";
  cancel.value = "cancel";
  cancel.textContent = "Cancel";
  cancel.autofocus = true; // Enter must not destroy anything
  const confirm = document.createElement("button");
  confirm.className = "btn btn-danger";
  confirm.value = "confirm";
  confirm.textContent = button || "Continue";
  buttons.append(cancel, confirm);
  form.append(heading, words, buttons);
  dialog.append(form);
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "confirm");
    });
  });
}

const wording = (element, text) => ({
  text,
  title: element.dataset.confirmTitle,
  button: element.dataset.confirmButton,
});

const confirmed = new WeakSet();

document.addEventListener(
  "submit",
  async (event) => {
    const form = event.target;
    if (!form.dataset.confirm || confirmed.delete(form)) return;
    event.preventDefault();
    event.stopImmediatePropagation(); // htmx listens too
    const submitter = event.submitter;
    if (!(await ask(wording(form, form.dataset.confirm)))) return;
    confirmed.add(form);
    form.requestSubmit(submitter);
  },
  true,
);

document.addEventListener("htmx:confirm", async (event) => {
  if (!event.detail.question) return;
  event.preventDefault();
  if (await ask(wording(event.detail.elt, event.detail.question))) event.detail.issueRequest(true);
});
