// The token of an invitation stands behind the # of the link, which the browser does not send: it is sent here, in the
// body of a request, and taken out of the address.
const token = location.hash.slice(1);
if (token) {
  history.replaceState(null, "", location.pathname);
  const form = document.createElement("form");
  form.method = "post";
  form.action = location.pathname;
  form.hidden = true;
  const fields = { token, csrfmiddlewaretoken: document.querySelector("[name=csrfmiddlewaretoken]").value };
  for (const [name, value] of Object.entries(fields)) {
    const field = document.createElement("input");
    Object.assign(field, { type: "hidden", name, value });
    form.append(field);
  }
  document.body.append(form);
  form.submit();
}
