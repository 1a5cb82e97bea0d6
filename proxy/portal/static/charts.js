// A table that has a figure around it becomes a picture; the table stays, folded, for whoever reads it better.
"use strict";

const DAY_S = 86400;

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function drawn(figure) {
  const days = [...figure.querySelectorAll("[data-x]")].map((cell) => Date.parse(cell.dataset.x) / 1000);
  const answers = [...figure.querySelectorAll("[data-y]")].map((cell) => Number(cell.dataset.y));
  const place = figure.querySelector("[data-plot]");
  if (!days.length) return;
  // A day on which nothing happened is a day with nothing, and no line from one day to another.
  const x = [];
  const y = [];
  const known = new Map(days.map((day, at) => [day, answers[at]]));
  for (let day = days[0]; day <= days[days.length - 1]; day += DAY_S) {
    x.push(day);
    y.push(known.get(day) ?? 0);
  }
  const axis = { stroke: colour("--soft"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line") } };
  const options = {
    width: place.clientWidth,
    height: 240,
    tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
    scales: { x: { time: true, range: (_, from, to) => [from - DAY_S / 2, to + DAY_S / 2] }, y: { range: (_, __, to) => [0, Math.max(to * 1.08, 1)] } },
    axes: [axis, { ...axis, size: 56, values: (_, ticks) => ticks.map((tick) => (Number.isInteger(tick) ? tick.toLocaleString() : "")) }],
    series: [{}, { label: "Answers", stroke: colour("--paid"), fill: colour("--paid"), paths: uPlot.paths.bars({ size: [0.7, 40] }), points: { show: false } }],
    legend: { show: false },
    cursor: { show: false },
  };
  place.replaceChildren();
  const chart = new uPlot(options, [x, y], place);
  chart.root.setAttribute("aria-hidden", "true");
}

function all() {
  document.querySelectorAll("[data-chart]").forEach((figure) => {
    figure.querySelector("[data-plot]").hidden = false;
    drawn(figure);
  });
}

document.querySelectorAll("[data-chart] [data-fallback]").forEach((table) => (table.open = false));
all();
let waiting = 0;
addEventListener("resize", () => {
  cancelAnimationFrame(waiting);
  waiting = requestAnimationFrame(all);
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", all);
