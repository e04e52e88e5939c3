// Icons of the sprite for scripts.

/** An <svg> element with the icon `name` of deploy/vendor/icons.txt. */
export function icon(name, css = "") {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", `icon ${css}`);
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `${document.documentElement.dataset.iconSprite}#${name}`);
  svg.append(use);
  return svg;
}
