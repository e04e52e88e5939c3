// All rounds of the run as a strip of bars, as high as they took long, with the shown ones marked.

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 34;

function rect(parent, css, x, y, width, height) {
  const made = document.createElementNS(SVG, "rect");
  made.setAttribute("class", css);
  for (const [key, value] of Object.entries({ x, y, width: Math.max(width, 0), height: Math.max(height, 0) })) {
    made.setAttribute(key, value);
  }
  parent.append(made);
}

/**
 * @param {HTMLElement} root
 * @param {object} strip
 * @param {Map<number, {round_index: number, running_time: number}>} strip.rounds finished ones
 * @param {number} strip.first of those shown
 * @param {number} strip.last
 * @param {number} strip.latest
 */
export function stripDraw(root, { rounds, first, last, latest }) {
  const width = Math.max(root.clientWidth, 100);
  const step = width / (latest + 1);
  const picture = document.createElementNS(SVG, "svg");
  picture.setAttribute("width", width);
  picture.setAttribute("height", HEIGHT);
  picture.setAttribute("aria-hidden", "true");
  rect(picture, "tl-strip-shown", first * step, 0, (last - first + 1) * step, HEIGHT);
  const took = [];
  let longest = 0;
  for (const { round_index: index, running_time: time } of rounds.values()) {
    const seconds = time - (rounds.get(index - 1)?.running_time ?? 0);
    took.push([index, seconds]);
    longest = Math.max(longest, seconds);
  }
  let path = "";
  const gap = step > 4 ? 1 : 0;
  for (const [index, seconds] of took) {
    const height = Math.max(2, (seconds / (longest || 1)) * (HEIGHT - 4));
    path += `M${(index * step).toFixed(2)} ${HEIGHT}v${(-height).toFixed(1)}h${Math.max(step - gap, 0.5).toFixed(2)}v${height.toFixed(1)}z`;
  }
  const bars = document.createElementNS(SVG, "path");
  bars.setAttribute("class", "tl-strip-bars");
  bars.setAttribute("d", path);
  picture.append(bars);
  root.replaceChildren(picture);
  root.setAttribute("aria-label", `Time that each of ${took.length} rounds took, the longest ${longest.toFixed(1)} seconds`);
}
