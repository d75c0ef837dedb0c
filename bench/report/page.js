"use strict";
const figures = JSON.parse(document.getElementById("figures").textContent);
const plots = () => [...document.querySelectorAll(".plot")];
const PRINT_WIDTH = 680; // pixels between the margins of an A4 page
const LEGEND_LINE = 20; // pixels of a line in the legend of a saved figure
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

// The legend is text of the page, which wraps at any width. A click hides a line, and shows it again.
const SYMBOLS = { circle: "\u25cf", square: "\u25a0", diamond: "\u25c6", cross: "\u271a", "triangle-up": "\u25b2", star: "\u2605", hexagon: "\u2b22", x: "\u2716" };

function plain(name) { // plotly's names are escaped
  return new DOMParser().parseFromString(name, "text/html").documentElement.textContent;
}

function writeLegend(plot) {
  const legend = plot.parentElement.querySelector(".legend");
  const named = plot.data.map((trace, index) => ({ trace, index })).filter(({ trace }) => trace.name && trace.showlegend !== false);
  for (const { trace, index } of named.length > 1 ? named : []) {
    const entry = legend.appendChild(document.createElement("li"));
    const button = entry.appendChild(document.createElement("button"));
    const mark = button.appendChild(document.createElement("i"));
    const guide = trace.mode === "lines";
    mark.textContent = guide ? "\u2013 \u2013" : SYMBOLS[trace.marker.symbol] ?? "\u25a0";
    mark.style.color = guide ? trace.line.color : trace.marker.color;
    button.append(plain(trace.name));
    button.type = "button";
    button.setAttribute("aria-pressed", "true");
    button.addEventListener("click", () => {
      const shown = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", shown);
      Plotly.restyle(plot, { visible: shown }, [index]);
    });
  }
}

// Maps are as high as the width of the page allows, so that no space is left around them.
function fitted(plot, width) {
  const { meta } = figures[plot.id].layout;
  if (!meta) return {};
  const { columns, aspect, most, around } = meta;
  return { height: Math.round(Math.min(most, ((width - 8) / columns) * aspect) + around) };
}

function fit(plot, width) {
  const { height } = fitted(plot, width);
  if (!height) return width === plot.clientWidth ? undefined : Plotly.relayout(plot, { width });
  plot.style.height = `${height}px`;
  return Plotly.relayout(plot, { width, height });
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
  const entries = plot.parentElement.querySelectorAll(".legend li").length;
  const legend = { orientation: "v", x: 0, y: 1, yanchor: "bottom", yref: "paper", maxheight: 1e4 };
  const margin = { ...layout.margin, t: layout.margin.t + LEGEND_LINE * entries };
  const size = { width, height: height + LEGEND_LINE * entries };
  const whole = { ...layout, ...size, margin, legend, showlegend: entries > 0, paper_bgcolor: LIGHT.paper };
  await Plotly.newPlot(copy, plot.data, whole);
  await Plotly.relayout(copy, colouring(copy.layout, LIGHT));
  await Plotly.downloadImage(copy, { format, ...size, scale: format === "png" ? 2 : 1, filename: plot.id });
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

let printing = false;

function fitAll() {
  if (!printing) for (const plot of plots()) fit(plot, plot.parentElement.clientWidth);
}

async function start() {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  document.documentElement.dataset.theme = dark.matches ? "dark" : "light";
  for (const plot of plots()) {
    const { data, layout } = figures[plot.id];
    Object.assign(layout, fitted(plot, plot.clientWidth));
    plot.style.height = `${layout.height}px`;
    await Plotly.newPlot(plot, data, layout, { displayModeBar: false });
    writeLegend(plot);
  }
  new ResizeObserver(fitAll).observe(document.querySelector("main"));
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
    printing = true;
    setTheme("light");
    for (const plot of plots()) fit(plot, PRINT_WIDTH);
  });
  addEventListener("afterprint", () => {
    printing = false;
    fitAll();
    setTheme(before);
  });
  document.documentElement.dataset.drawn = plots().length;
}

start();
