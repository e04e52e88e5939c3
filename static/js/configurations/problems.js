// What the server found wrong with an upload, as a list: file and line, what is wrong, what to do.

/** Show `problems` ([{file, line, message, fix}]) in `element`; none hides it. */
export function showProblems(element, problems) {
  element.hidden = problems.length === 0;
  const list = document.createElement("ul");
  list.className = "conf-problems";
  for (const { file, line, message, fix } of problems) {
    const item = document.createElement("li");
    const place = document.createElement("span");
    place.className = "conf-place";
    place.textContent = line ? `${file}, line ${line}` : file;
    item.append(place, `${message} ${fix}`);
    list.append(item);
  }
  element.replaceChildren(...(problems.length ? [list] : []));
}
