// Where the aggregator and its devices stand in the picture. Pure geometry, no DOM in here.

const SAMPLES = 720;
const MARGIN = { side: 62, top: 30, bottom: 56 };

/** Most devices that the picture shows; beyond it, the list says more. */
export const MOST_DRAWN = 60;

/**
 * Place `count` devices around the middle of a picture.
 *
 * @param {number} count number of devices, at least 1
 * @param {number} width of the picture in pixels
 * @param {number} height of the picture in pixels
 * @returns {{centre: {x: number, y: number}, radius: number, letters: number,
 *   devices: {x: number, y: number}[]}} `radius` of a device's circle; `letters` of a name that fit beneath it
 */
export function placed(count, width, height) {
  const centre = { x: width / 2, y: (height - MARGIN.bottom + MARGIN.top) / 2 };
  const wide = width / 2 - MARGIN.side;
  const high = (height - MARGIN.top - MARGIN.bottom) / 2;
  const rings = count <= 22 ? [1] : [1, 0.58];
  const lengths = rings.map((scale) => perimeter(wide * scale, high * scale));
  const total = lengths.reduce((sum, length) => sum + length, 0);
  const inner = rings.length === 1 ? 0 : Math.floor((count * lengths[1]) / total);
  const counts = [count - inner, inner];

  const devices = rings.flatMap((scale, ring) =>
    around(counts[ring], wide * scale, high * scale, ring % 2 === 1).map(({ x, y }) => ({
      x: centre.x + x,
      y: centre.y + y,
    })),
  );
  const spacing = total / count;
  return {
    centre,
    devices,
    radius: Math.max(9, Math.min(23, spacing / 4.4)),
    letters: Math.max(5, Math.min(18, Math.floor(spacing / 7))),
  };
}

function perimeter(a, b) {
  return Math.PI * (3 * (a + b) - Math.sqrt((3 * a + b) * (a + 3 * b))); // Ramanujan 1914
}

/** Points on an ellipse with the same length of arc between them, the first at the top (or half a step after it). */
function around(count, a, b, halfStep) {
  const lengths = [0];
  const at = (index) => {
    const angle = (index / SAMPLES) * 2 * Math.PI - Math.PI / 2;
    return { x: a * Math.cos(angle), y: b * Math.sin(angle) };
  };
  for (let index = 1; index <= SAMPLES; index += 1) {
    const from = at(index - 1);
    const to = at(index);
    lengths.push(lengths[index - 1] + Math.hypot(to.x - from.x, to.y - from.y));
  }
  // Two devices stand left and right, not above and below: the picture is wider than high.
  const shift = (count === 2 ? 0.25 : 0) + (halfStep ? 0.5 / count : 0);
  return Array.from({ length: count }, (_, index) => {
    const wanted = ((index / count + shift) % 1) * lengths[SAMPLES];
    return at(lengths.findIndex((length) => length >= wanted));
  });
}
