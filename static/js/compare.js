// The figures of the page that compares runs; they are made on the server (runs/comparison.py).

const holder = document.getElementById("compare-figures");
const figures = holder ? JSON.parse(JSON.parse(holder.textContent)) : null;

function draw() {
  const dark = document.documentElement.dataset.bsTheme === "dark";
  const template = figures.themes[dark ? "dark" : "light"];
  for (const place of document.querySelectorAll("[data-figures]")) {
    figures[place.dataset.figures].forEach(({ data, layout }, index) => {
      const card = place.children[index] ?? place.appendChild(document.createElement("div"));
      card.className = "card cp-figure";
      const plot = card.firstElementChild ?? card.appendChild(document.createElement("div"));
      window.Plotly.react(plot, data, { ...layout, template, autosize: true }, { displaylogo: false, responsive: true });
    });
  }
}

if (figures) {
  draw();
  new MutationObserver(draw).observe(document.documentElement, { attributeFilter: ["data-bs-theme"] });
}
