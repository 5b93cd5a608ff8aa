"use strict";
const figures = JSON.parse(document.getElementById("figures").textContent);
const prefersDark = matchMedia("(prefers-color-scheme: dark)");
const listeners = []; // what must be drawn anew when colours change

function theme() {
  const style = getComputedStyle(document.documentElement);
  const value = (name) => style.getPropertyValue(name).trim();
  const axis = { gridcolor: value("--grid"), linecolor: value("--line"), zerolinecolor: value("--line"), tickcolor: value("--line") };
  return { font: { color: value("--muted"), family: "system-ui, sans-serif", size: 12 }, axis };
}

function layout(own) {
  const look = theme();
  const size = document.documentElement.classList.contains("paper") ? { width: 460, height: 280 } : { autosize: true };
  const axes = {};
  for (const name of ["xaxis", "yaxis"]) {
    axes[name] = { automargin: true, zeroline: false, ...look.axis, ...own[name], title: { standoff: 8, ...(own[name] || {}).title } };
  }
  return {
    ...own, ...axes, ...size, font: look.font, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", hovermode: "closest",
    margin: { l: 52, r: 12, t: 10, b: 44 }, legend: { orientation: "h", x: 0, y: 1.02, xanchor: "left", yanchor: "bottom", itemsizing: "constant" },
  };
}

async function draw() {
  for (const place of document.querySelectorAll(".plot")) {
    const figure = figures[place.dataset.figure];
    await Plotly.react(place, figure.data, layout(figure.layout), { displaylogo: false });
    scalable(place);
    place.dataset.drawn = place.querySelectorAll(".trace, .bars").length;
  }
}

// On paper the drawing is scaled to its card, which plotly.js alone cannot be told.
function scalable(place) {
  for (const svg of place.querySelectorAll(".main-svg")) {
    svg.setAttribute("viewBox", `0 0 ${svg.getAttribute("width")} ${svg.getAttribute("height")}`);
  }
}

function paper(on) {
  document.documentElement.classList.toggle("paper", on);
  listeners.forEach((listener) => listener());
}

function sortable(table) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  heads.forEach((head, column) => head.querySelector("button")?.addEventListener("click", () => {
    const up = head.getAttribute("aria-sort") !== "ascending";
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const key = (row) => row.cells[column].dataset.key;
    const compare = head.classList.contains("number") ? (a, b) => toNumber(key(a)) - toNumber(key(b)) : (a, b) => key(a).localeCompare(key(b));
    body.append(...[...body.rows].sort((a, b) => (up ? 1 : -1) * compare(a, b)));
  }));
}

function toNumber(text) {
  return text === "inf" ? Number.MAX_VALUE : text === "-inf" ? -Number.MAX_VALUE : Number(text);
}

// The reader's choice, else the system's; pages opened from disk may not be allowed to remember it.
function colours(dark) {
  document.documentElement.classList.toggle("dark", dark);
  document.getElementById("theme").textContent = dark ? "Light" : "Dark";
  listeners.forEach((listener) => listener());
}

colours(prefersDark.matches);
prefersDark.addEventListener("change", (event) => colours(event.matches));
document.getElementById("theme").addEventListener("click", () => colours(!document.documentElement.classList.contains("dark")));
document.querySelectorAll("table.sortable").forEach(sortable);
if (document.querySelector(".plot")) {
  draw();
  listeners.push(draw);
  const fit = new ResizeObserver((entries) => entries.forEach(async ({ target }) => {
    if (target.dataset.drawn && !matchMedia("print").matches) {
      await Plotly.Plots.resize(target);
      scalable(target);
    }
  }));
  document.querySelectorAll(".plot").forEach((place) => fit.observe(place));
}
addEventListener("beforeprint", () => paper(true));
addEventListener("afterprint", () => paper(false));
