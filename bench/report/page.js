"use strict";
const figures = JSON.parse(document.getElementById("figures").textContent);
const plots = () => [...document.querySelectorAll(".plot")];
const PRINT_WIDTH = 680; // pixels between the margins of an A4 page
const LIGHT = { ink: "#1b1f24", line: "#d1d9e0", paper: "#ffffff" };

function colours() {
  const style = getComputedStyle(document.documentElement);
  return { ink: style.getPropertyValue("--ink").trim(), line: style.getPropertyValue("--line").trim() };
}

// Text and grid of a figure in the page's colours; its data keep theirs, which show on both.
function colouring(layout, { ink, line }) {
  const changes = { "font.color": ink, "hoverlabel.bgcolor": colours().line, "hoverlabel.font.color": colours().ink };
  for (const axis of Object.keys(layout).filter((key) => /^[xy]axis\d*$/.test(key))) {
    for (const part of ["gridcolor", "linecolor", "zerolinecolor"]) changes[`${axis}.${part}`] = line;
  }
  return changes;
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  return Promise.all(plots().map((plot) => Plotly.relayout(plot, colouring(plot.layout, colours()))));
}

// A saved figure is light whatever the page is, because it goes into papers and slides.
async function save(plot, format) {
  const { width, height } = plot.getBoundingClientRect();
  const layout = structuredClone(plot.layout);
  const copy = document.createElement("div");
  await Plotly.newPlot(copy, plot.data, { ...layout, width, height, paper_bgcolor: LIGHT.paper });
  await Plotly.relayout(copy, colouring(copy.layout, LIGHT));
  await Plotly.downloadImage(copy, { format, width, height, scale: format === "png" ? 2 : 1, filename: plot.id });
  Plotly.purge(copy);
}

function sortBy(header) {
  const table = header.closest("table"), body = table.tBodies[0], column = header.cellIndex;
  const descending = header.getAttribute("aria-sort") === "ascending";
  for (const other of table.tHead.rows[0].cells) other.setAttribute("aria-sort", "none");
  header.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const text = (row) => row.cells[column].textContent.trim();
  const rows = [...body.rows];
  const numeric = rows.every((row) => /^(-|[+-]?\d.*)?$/.test(text(row)));
  const missing = (row) => text(row) === "" || text(row) === "-";
  rows.sort((a, b) => {
    if (missing(a) || missing(b)) return missing(a) - missing(b); // at the end in both directions
    const order = numeric ? parseFloat(text(a)) - parseFloat(text(b)) : text(a).localeCompare(text(b), "en", { numeric: true });
    return descending ? -order : order;
  });
  body.append(...rows);
}

async function start() {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  document.documentElement.dataset.theme = dark.matches ? "dark" : "light";
  for (const plot of plots()) {
    const { data, layout } = figures[plot.id];
    await Plotly.newPlot(plot, data, layout, { responsive: true, displayModeBar: false });
  }
  await setTheme(document.documentElement.dataset.theme);
  dark.addEventListener("change", (event) => setTheme(event.matches ? "dark" : "light"));
  document.getElementById("theme").addEventListener("click", () => setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"));
  for (const button of document.querySelectorAll("[data-save]")) {
    button.addEventListener("click", () => save(document.getElementById(button.dataset.of), button.dataset.save));
  }
  for (const header of document.querySelectorAll(".sortable th")) header.addEventListener("click", () => sortBy(header));
  let before;
  addEventListener("beforeprint", () => {
    before = document.documentElement.dataset.theme;
    setTheme("light");
    for (const plot of plots()) Plotly.relayout(plot, { width: PRINT_WIDTH });
  });
  addEventListener("afterprint", () => {
    for (const plot of plots()) Plotly.relayout(plot, { width: null, autosize: true });
    setTheme(before);
  });
  document.documentElement.dataset.drawn = plots().length;
}

start();
