// <form data-submit-on-change>: a filter or a choice that takes effect at once.
document.addEventListener("change", (event) => {
  event.target.form?.matches("[data-submit-on-change]") && event.target.form.requestSubmit();
});
