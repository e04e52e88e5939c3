// An upload field that sends its file at once and shows how far it is:
//
//   <input type="file" data-upload-url="/configurations/packages/" data-upload-kind="server">
//
// The file goes as multipart field "file" with "kind" beside it. The server answers JSON; a refusal carries the sentence
// to show as "error". Events on the input, all bubbling: "upload:start" {file}, "upload:progress" {loaded, total},
// "upload:done" {file, data: the answer}, "upload:failed" {file, error}.
import { csrfToken } from "./csrf.js";

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

/** A number of bytes in words: "1.4 MiB". */
export function bytes(size) {
  let unit = 0;
  for (; size >= 1024 && unit < UNITS.length - 1; unit += 1) size /= 1024;
  return `${unit === 0 || size >= 100 ? Math.round(size) : Number(size.toPrecision(3))} ${UNITS[unit]}`;
}

function emit(input, name, detail) {
  input.dispatchEvent(new CustomEvent(`upload:${name}`, { bubbles: true, detail }));
}

function statusOf(input) {
  let status = input.parentElement.querySelector(":scope > .upload-status");
  if (!status) {
    status = document.createElement("div");
    status.className = "upload-status";
    const bar = document.createElement("progress");
    bar.max = 1;
    bar.setAttribute("aria-label", "Upload");
    const words = document.createElement("div");
    words.className = "upload-words";
    words.setAttribute("role", "status");
    status.append(bar, words);
    input.after(status);
  }
  return { status, bar: status.firstElementChild, words: status.lastElementChild };
}

function answerOf(request) {
  try {
    return JSON.parse(request.responseText);
  } catch {
    return null;
  }
}

function failureOf(request, answer) {
  if (answer?.error) return answer.error;
  if (request.status === 413) return "The file is larger than the server takes.";
  if (request.status === 403) return "You may not upload here, or your session has ended. Reload the page.";
  return `The server answered with an error (${request.status}). Try again.`;
}

/** Send `file` for `input`; a second call ends the first. */
export function upload(input, file) {
  input.uploadRequest?.abort();
  const request = new XMLHttpRequest();
  input.uploadRequest = request;
  const { status, bar, words } = statusOf(input);
  status.dataset.state = "sending";
  bar.value = 0;
  words.textContent = `Sending ${file.name}`;
  emit(input, "start", { file });

  const fail = (error) => {
    status.dataset.state = "failed";
    words.textContent = error;
    input.value = ""; // so that choosing the same file again sends it again
    emit(input, "failed", { file, error });
  };
  request.upload.addEventListener("progress", (event) => {
    if (!event.lengthComputable) return;
    bar.value = event.loaded / event.total;
    const percent = Math.floor((100 * event.loaded) / event.total);
    words.textContent =
      event.loaded < event.total
        ? `Sending ${file.name}: ${percent} % of ${bytes(event.total)}`
        : `Reading ${file.name} on the server`;
    emit(input, "progress", { loaded: event.loaded, total: event.total });
  });
  request.addEventListener("load", () => {
    const answer = answerOf(request);
    if (request.status < 200 || request.status >= 300 || answer === null) return fail(failureOf(request, answer));
    status.dataset.state = "done";
    bar.value = 1;
    words.textContent = `${file.name}, ${bytes(file.size)}`;
    emit(input, "done", { file, data: answer });
  });
  request.addEventListener("error", () => fail("The connection broke while sending. Choose the file again."));

  const body = new FormData();
  if (input.dataset.uploadKind) body.append("kind", input.dataset.uploadKind);
  body.append("file", file);
  request.open("POST", input.dataset.uploadUrl);
  request.setRequestHeader("X-CSRFToken", csrfToken());
  request.setRequestHeader("Accept", "application/json");
  request.send(body);
}

document.addEventListener("change", (event) => {
  const input = event.target;
  if (input.matches?.("input[type=file][data-upload-url]") && input.files.length) upload(input, input.files[0]);
});
