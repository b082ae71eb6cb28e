// Draws the charts one after the other, so that the page can be read and scrolled meanwhile.
// What a chart shows stands in its data; its colours of text and axes are the style sheet's.
const { charts, rows } = JSON.parse(document.getElementById("data").textContent);
const AROUND = 50; // pixels of axes and legend
const options = {
  ast: true, // expressions are interpreted: the page forbids functions made of strings
  actions: false,
  renderer: "svg",
  defaultStyle: false,
  tooltip: { disableDefaultStyle: true },
  config: {
    background: "transparent",
    aria: false,
    font: "system-ui, sans-serif",
    view: { stroke: null },
    axis: { labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal" },
    legend: { orient: "top", labelFontSize: 12, symbolStrokeWidth: 2, columns: 4 },
  },
};

async function draw(place) {
  const { spec, rows: index } = charts[Number(place.dataset.chart)];
  try {
    await vegaEmbed(place, { ...spec, data: { values: rows[index] } }, options);
    place.querySelector("svg").setAttribute("aria-hidden", "true"); // the figure has a caption
  } catch (error) {
    place.textContent = "This chart could not be drawn; its data stand in the table.";
    console.error(error);
  }
}

const places = document.querySelectorAll("[data-chart]");
for (const place of places) {
  const { spec } = charts[Number(place.dataset.chart)];
  place.style.minHeight = `${spec.height + AROUND}px`; // nothing moves while the reader reads
}
let drawn = 0;
for (const place of places) {
  await draw(place);
  drawn += 1;
  await new Promise((resume) => setTimeout(resume));
}
document.documentElement.dataset.drawn = String(drawn);
