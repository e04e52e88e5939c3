// Where the aggregator and its devices stand in the picture. Pure geometry, no DOM in here.

const SAMPLES = 720;
const MARGIN = { side: 70, end: 64 }; // pixels around the ring, for names
const CENTRE_SPACE = 84; // pixels left and right of the aggregator that stay free of columns
const ROW = { least: 21, most: 40 }; // pixels between devices in a column
const LETTER = 6; // pixels, about

/** Most devices that the picture shows; beyond it, the list says more. */
export const MOST_DRAWN = 64;

/** Most devices that stand around the aggregator; more stand in columns on both sides of it. */
export const ONE_RING = 18;

/**
 * Place `count` devices around the middle of a picture.
 *
 * @param {number} count number of devices, at least 1
 * @param {number} width of the picture in pixels
 * @param {number} height of the picture in pixels
 * @returns {{centre: {x: number, y: number}, radius: number, letters: number,
 *   devices: {x: number, y: number, name: "above"|"below"|"left"|"right"}[]}} `radius` of a device's circle; `letters` of
 *   a name that fit beside it; `name`: where its name stands, away from its line to the aggregator
 */
export function placed(count, width, height) {
  const centre = { x: width / 2, y: height / 2 };
  return count <= ONE_RING ? ring(count, centre) : columns(count, centre);
}

function ring(count, centre) {
  const wide = centre.x - MARGIN.side;
  const high = centre.y - MARGIN.end;
  const spacing = perimeter(wide, high) / count;
  return {
    centre,
    radius: Math.max(13, Math.min(23, spacing / 4.4)),
    letters: Math.max(8, Math.min(20, Math.floor(spacing / LETTER))),
    devices: around(count, wide, high).map(({ x, y }) => ({
      x: centre.x + x,
      y: centre.y + y,
      name: y < -0.3 * high ? "above" : "below",
    })),
  };
}

function columns(count, centre) {
  const sides = [Math.ceil(count / 2), Math.floor(count / 2)];
  const most = Math.floor((2 * centre.y - 24) / ROW.least);
  const each = Math.ceil(sides[0] / most);
  const columnWidth = (centre.x - CENTRE_SPACE) / each;
  const radius = 7;
  const devices = sides.flatMap((own, side) => {
    const name = side === 0 ? "left" : "right";
    const direction = side === 0 ? -1 : 1;
    const rows = Math.ceil(own / each);
    const step = Math.min(ROW.most, (2 * centre.y - 24) / rows);
    return Array.from({ length: own }, (_, index) => {
      const column = Math.floor(index / rows);
      const inColumn = Math.min(rows, own - column * rows);
      return {
        x: centre.x + direction * (CENTRE_SPACE + column * columnWidth + radius),
        // Rows of neighbouring columns stand half a row apart, so that lines pass between the names.
        y: centre.y + ((index % rows) - (inColumn - 1) / 2) * step,
        name,
      };
    });
  });
  return { centre, devices, radius, letters: Math.max(5, Math.min(22, Math.floor((columnWidth - 2 * radius - 12) / LETTER))) };
}

function perimeter(a, b) {
  return Math.PI * (3 * (a + b) - Math.sqrt((3 * a + b) * (a + 3 * b))); // Ramanujan 1914
}

/** Points on an ellipse around the origin with the same length of arc between them. */
function around(count, a, b) {
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
  // Nobody stands straight below the aggregator, where its name is; one alone stands beside it.
  const shift = count === 1 ? 0.25 : count % 2 === 0 ? 0.5 / count : 0;
  return Array.from({ length: count }, (_, index) => {
    const wanted = ((index / count + shift) % 1) * lengths[SAMPLES];
    return at(lengths.findIndex((length) => length >= wanted));
  });
}
