"use strict";
// Structures in 3D by 3Dmol.js: one at a time, chosen from a list or run through as a film.
const views = JSON.parse(document.getElementById("views").textContent);
const SHOWN_ARROWS = 12; // of the atoms that are off most
const LONGEST_ARROW = 2.2; // Å
const FRAMES_PER_SECOND = 12;

function hasWebGL() {
  const canvas = document.createElement("canvas");
  return Boolean(canvas.getContext("webgl2") || canvas.getContext("webgl"));
}

function point(v) {
  return { x: v[0], y: v[1], z: v[2] };
}

function sum(a, b, factor) {
  return a.map((x, i) => x + factor * b[i]);
}

// Grey through orange to red, for 0 … 1.
function heat(value) {
  const stops = [[185, 192, 201], [224, 123, 40], [194, 38, 61]];
  const place = 2 * Math.min(1, Math.max(0, value)), from = Math.min(1, Math.floor(place)), part = place - from;
  const rgb = stops[from].map((x, i) => Math.round(x + part * (stops[from + 1][i] - x)));
  return `rgb(${rgb.join(",")})`;
}

function xyz(scene) {
  const atoms = scene.symbols.map((symbol, i) => `${symbol} ${scene.positions[i].join(" ")}`);
  return `${scene.symbols.length}\n\n${atoms.join("\n")}\n`;
}

function cellEdges(cell) {
  const corners = [0, 1, 2, 3, 4, 5, 6, 7].map((n) => cell.reduce((at, v, i) => sum(at, v, (n >> i) & 1), [0, 0, 0]));
  const pairs = [];
  for (let n = 0; n < 8; n++) {
    for (let i = 0; i < 3; i++) {
      if (!((n >> i) & 1)) {
        pairs.push([corners[n], corners[n | (1 << i)]]);
      }
    }
  }
  return pairs;
}

class View {
  constructor(stage) {
    this.stage = stage;
    this.card = stage.closest(".view");
    this.scenes = views[stage.dataset.view].scenes;
    this.animated = views[stage.dataset.view].animated;
    this.most = Math.max(...this.scenes.map((s) => (s.error ? Math.max(...s.error) : 0)), 1e-9);
    this.viewer = $3Dmol.createViewer(stage, { backgroundColor: this.value("--card"), disableFog: true, antialias: true, id: `canvas-${stage.dataset.view}` });
    // Scrolling the page must not zoom the picture.
    stage.addEventListener("wheel", (event) => event.ctrlKey || event.stopImmediatePropagation(), { capture: true });
    this.find(".most", (e) => (e.textContent = `to ${Math.round(this.most).toLocaleString("en")} meV/Å`));
    for (const name of [".by-error", ".with-arrows"]) {
      this.find(name, (e) => e.addEventListener("change", () => this.show(this.index)));
    }
    this.find(".which", (e) => e.addEventListener("input", () => this.show(Number(e.value))));
    this.find(".before", (e) => e.addEventListener("click", () => this.show(this.index - 1)));
    this.find(".after", (e) => e.addEventListener("click", () => this.show(this.index + 1)));
    this.find(".play", (e) => e.addEventListener("click", () => this.play(!this.timer)));
    new ResizeObserver(() => this.viewer.resize()).observe(stage);
    listeners.push(() => this.recolour());
    this.show(0);
    stage.dataset.drawn = this.scenes[0].symbols.length;
  }

  find(selector, use) {
    const element = this.card.querySelector(selector);
    return element ? use(element) : undefined;
  }

  value(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  }

  show(index) {
    this.index = (index + this.scenes.length) % this.scenes.length;
    const scene = this.scenes[this.index], viewer = this.viewer, again = this.framed === this.index;
    this.find(".which", (e) => (e.value = String(this.index)));
    this.find("output", (e) => (e.textContent = scene.label));
    viewer.removeAllModels();
    viewer.removeAllShapes();
    const model = viewer.addModel(xyz(scene), "xyz");
    const byError = scene.error && this.find(".by-error", (e) => e.checked);
    const colour = byError ? { colorfunc: (atom) => heat(scene.error[atom.index] / this.most) } : { colorscheme: "Jmol" };
    model.setStyle({}, { stick: { radius: 0.11, ...colour }, sphere: { scale: 0.2, ...colour } });
    if (scene.cell) {
      cellEdges(scene.cell).forEach(([a, b]) => viewer.addLine({ start: point(a), end: point(b), color: this.value("--muted") }));
    }
    if (scene.error && this.find(".with-arrows", (e) => e.checked)) {
      this.arrows(scene);
    }
    const say = (words) => this.find(".said", (e) => (e.textContent = words));
    viewer.setHoverable({}, true, (atom) => say(this.describe(scene, atom)), () => say(""));
    if (scene.error && !this.animated) {
      const worst = scene.error.indexOf(Math.max(...scene.error));
      say(`Worst: ${this.describe(scene, { index: worst })}`);
    }
    if (!again && !(this.animated && this.framed !== undefined)) {
      viewer.zoomTo();
      viewer.zoom(1.15);
    }
    this.framed = this.index;
    viewer.render();
  }

  describe(scene, atom) {
    const where = `atom ${atom.index} (${scene.symbols[atom.index]})`;
    return scene.error ? `${where}: off by ${scene.error[atom.index].toLocaleString("en")} meV/Å` : where;
  }

  arrows(scene) {
    const worst = scene.error.map((error, i) => [error, i]).sort((a, b) => b[0] - a[0]).slice(0, SHOWN_ARROWS).map(([, i]) => i);
    const length = (v) => Math.hypot(...v);
    const longest = Math.max(...worst.flatMap((i) => [length(scene.arrows.reference[i]), length(scene.arrows.predicted[i])]), 1e-9);
    for (const [name, colour, radius] of [["reference", "#3b7dd8", 0.11], ["predicted", "#2a9d6f", 0.08]]) {
      for (const i of worst) {
        const start = scene.positions[i], force = scene.arrows[name][i];
        if (length(force) > 0.02 * longest) {
          const end = sum(start, force, LONGEST_ARROW / longest);
          this.viewer.addArrow({ start: point(start), end: point(end), radius, mid: 0.8, color: colour });
        }
      }
    }
  }

  play(on) {
    clearInterval(this.timer);
    this.timer = on ? setInterval(() => this.show(this.index + 1), 1000 / FRAMES_PER_SECOND) : undefined;
    this.find(".play", (e) => (e.textContent = on ? "Pause" : "Play"));
  }

  recolour() {
    this.viewer.setBackgroundColor(this.value("--card"));
    this.show(this.index);
  }

  // A browser prints an empty canvas: on paper stands a picture of it.
  paper(on) {
    this.stage.querySelector("img")?.remove();
    const canvas = this.stage.querySelector("canvas");
    canvas.style.display = on ? "none" : "";
    if (on) {
      const picture = document.createElement("img");
      picture.src = this.viewer.pngURI();
      picture.alt = this.scenes[this.index].label;
      this.stage.append(picture);
    }
  }
}

const stages = [...document.querySelectorAll(".stage")];
if (hasWebGL()) {
  const shown = stages.map((stage) => new View(stage));
  addEventListener("beforeprint", () => shown.forEach((view) => view.paper(true)));
  addEventListener("afterprint", () => shown.forEach((view) => view.paper(false)));
} else {
  stages.forEach((stage) => {
    stage.dataset.drawn = "no WebGL";
    stage.style.height = "auto";
    stage.innerHTML = '<p class="note" style="margin: 12px">This browser draws no 3D (WebGL is off): the tables name the frames.</p>';
  });
}
