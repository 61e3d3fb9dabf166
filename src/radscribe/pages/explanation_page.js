const data = JSON.parse(document.getElementById("data").textContent);
const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
const colours = bytes(data.colours);

// Unpacks maps that explanation_page.py packed: one scale per map, and bytes in 255ths of it.
function unpack(packed) {
  const scales = new Float32Array(bytes(packed.scales).buffer);
  const steps = bytes(packed.values);
  const size = steps.length / scales.length;
  return { size, map: (index) => Float32Array.from(steps.subarray(index * size, (index + 1) * size), (step) => (step * scales[index]) / 255) };
}
const largest = (values) => values.reduce((most, value) => Math.max(most, value), 0);
const short = (value) => (value === 0 ? "0" : Number(value.toPrecision(3)).toString());

const layer = document.getElementById("layer");
const heads = document.getElementById("heads");
const opacity = document.getElementById("opacity");
const shared = document.getElementById("shared");

// Weights [side, count] of a bicubic enlargement, as in the PNG files.
function enlargement(count, side) {
  const weights = new Float32Array(side * count);
  for (let to = 0; to < side; to++) {
    const centre = ((to + 0.5) * count) / side - 0.5;
    let sum = 0;
    for (let from = Math.max(0, Math.floor(centre) - 1); from <= Math.min(count - 1, Math.floor(centre) + 2); from++) {
      const far = Math.abs(from - centre);
      const weight = far < 1 ? 1.5 * far ** 3 - 2.5 * far ** 2 + 1 : far < 2 ? -0.5 * far ** 3 + 2.5 * far ** 2 - 4 * far + 2 : 0;
      weights[to * count + from] = weight;
      sum += weight;
    }
    for (let from = 0; from < count; from++) weights[to * count + from] /= sum;
  }
  return weights;
}

function paint(canvas, map, rows, columns, top) {
  const { width, height } = canvas;
  const down = enlargement(rows, height), across = enlargement(columns, width);
  const most = largest(map), wide = new Float32Array(rows * width), picture = new ImageData(width, height);
  for (let row = 0; row < rows; row++)
    for (let x = 0; x < width; x++)
      for (let column = 0; column < columns; column++) wide[row * width + x] += map[row * columns + column] * across[x * columns + column];
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) {
      let value = 0;
      for (let row = 0; row < rows; row++) value += wide[row * width + x] * down[y * rows + row];
      const share = top > 0 ? Math.min(1, Math.min(most, Math.max(0, value)) / top) : 0;
      const colour = 3 * Math.round(255 * share);
      picture.data.set([colours[colour], colours[colour + 1], colours[colour + 2], 255 * share * (opacity.value / 100)], 4 * (y * width + x));
    }
  canvas.getContext("2d").putImageData(picture, 0, 0);
}

class Study {
  constructor(card, study) {
    Object.assign(this, { card, study });
    this.attention = study.attention && unpack(study.attention);
    card.querySelector(".scale").hidden = !this.attention;
    this.maps = Object.fromEntries(Object.entries(study.maps).map(([name, packed]) => [name, unpack(packed).map(0)]));
    this.cams = Object.fromEntries(Object.entries(study.cams).map(([name, packed]) => [name, unpack(packed).map(0)]));
    this.memory = study.memory && { words: unpack(study.memory.words), regions: unpack(study.memory.regions) };
    this.canvases = [...card.querySelectorAll(".picture canvas")];
    this.frames = [...card.querySelectorAll(".region")];
    this.buttons = [...card.querySelectorAll("[data-show]")];
    this.words = this.buttons.filter((button) => button.dataset.show.startsWith("word:"));
    card.querySelector(".scale i").style.background = `linear-gradient(90deg, ${[0, 32, 64, 96, 128, 160, 192, 224, 255].map((at) => `rgb(${colours.subarray(3 * at, 3 * at + 3).join(" ")})`)})`;
    this.listen();
    this.region = 0;
    const start = this.buttons.find((button) => button.dataset.show === study.start);
    if (start) this.keep(start);
  }

  listen() {
    const leave = () => this.show(this.kept);
    for (const button of this.buttons) {
      button.addEventListener("pointerenter", () => this.show(button));
      button.addEventListener("pointerleave", leave);
      button.addEventListener("focus", () => this.show(button));
      button.addEventListener("blur", leave);
      button.addEventListener("click", () => this.keep(button));
    }
    // The tab key stops once for all words; the arrow keys go from word to word.
    this.words.forEach((word, index) => {
      word.tabIndex = index ? -1 : 0;
      word.addEventListener("keydown", (event) => {
        const to = { ArrowLeft: index - 1, ArrowRight: index + 1, Home: 0, End: this.words.length - 1 }[event.key];
        if (!this.words[to]) return;
        event.preventDefault();
        this.words.forEach((each) => (each.tabIndex = each === this.words[to] ? 0 : -1));
        this.words[to].focus();
      });
    });
    if (!this.memory || !data.layout) return;
    this.card.querySelectorAll(".picture").forEach((picture, view) => {
      const { rows, columns } = this.study;
      const at = (event) => {
        const box = picture.getBoundingClientRect();
        const row = Math.min(rows - 1, Math.max(0, Math.floor(((event.clientY - box.top) / box.height) * rows)));
        const column = Math.min(columns - 1, Math.max(0, Math.floor(((event.clientX - box.left) / box.width) * columns)));
        this.point((view * rows + row) * columns + column);
      };
      picture.addEventListener("pointermove", at);
      picture.addEventListener("pointerdown", at);
      picture.addEventListener("keydown", (event) => {
        const by = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
        if (!by) return;
        event.preventDefault();
        const [ofView, row, column] = this.place(this.region);
        const from = ofView === view ? [row, column] : [0, 0];
        const [toRow, toColumn] = [Math.min(rows - 1, Math.max(0, from[0] + by[0])), Math.min(columns - 1, Math.max(0, from[1] + by[1]))];
        this.point((view * rows + toRow) * columns + toColumn);
      });
    });
  }

  place(region) {
    const { rows, columns } = this.study;
    return [Math.floor(region / (rows * columns)), Math.floor(region / columns) % rows, region % columns];
  }

  ofWord(word) {
    const { layers, heads: count, words } = this.study;
    const of = (head) => this.attention.map(((layer.value - 1) * count + head) * words.length + word);
    if (heads.value !== "mean" && heads.value !== "max") return of(heads.value - 1);
    const all = Array.from({ length: count }, (_, head) => of(head));
    return all[0].map((_, place) => {
      const values = all.map((map) => map[place]);
      return heads.value === "max" ? Math.max(...values) : values.reduce((sum, value) => sum + value, 0) / count;
    });
  }

  keep(button) {
    this.kept = button;
    for (const each of this.buttons) each.setAttribute("aria-pressed", String(each === button));
    this.show(button);
  }

  show(button) {
    if (!button) return;
    this.shown = button;
    for (const each of this.buttons) each.classList.toggle("shown", each === button);
    const [kind, name] = [button.dataset.show.split(":", 1)[0], button.dataset.show.replace(/^\w+:/, "")];
    const { rows, columns, words } = this.study;
    if (!this.attention) return this.say(kind, name);
    const values = kind === "word" ? this.ofWord(Number(name)) : kind === "map" ? this.maps[name] : this.cams[name];
    const own = largest(values);
    let top = own;
    if (shared.checked && kind === "word") top = this.sharedTop();
    if (shared.checked && kind === "cam") top = largest(Object.values(this.cams).map(largest));
    this.canvases.forEach((canvas, view) => {
      paint(canvas, values.subarray(view * rows * columns, (view + 1) * rows * columns), rows, columns, top);
    });
    this.card.querySelector(".scale .most").textContent = short(top);
    this.say(kind, name, own, top, values.length);
    if (kind === "word" && this.memory && data.layout) {
      this.word = Number(name);
      this.point(values.indexOf(own));
    }
  }

  // The largest attention of any word, for the chosen layer and heads.
  sharedTop() {
    const key = `${layer.value} ${heads.value}`;
    this.tops ??= {};
    return (this.tops[key] ??= largest(this.study.words.map((_, word) => largest(this.ofWord(word)))));
  }

  say(kind, name, own, top, places) {
    const status = this.card.querySelector(".status");
    const title = document.createElement("b");
    const said = [];
    if (kind === "word") {
      const { text, probability, observations } = this.study.words[name];
      title.textContent = `“${text}”`;
      const which = { mean: "mean of the heads", max: "maximum of the heads" }[heads.value] ?? `head ${heads.value}`;
      said.push(`word ${Number(name) + 1} of ${this.study.words.length}, written with probability ${probability.toFixed(2)}`);
      if (observations.length) said.push(`names ${observations.join(", ")}`);
      if (this.attention) said.push(`attention of layer ${layer.value}, ${which}: at most ${short(own)}, ${(own * places).toFixed(1)} times an even spread`);
    } else if (kind === "map") {
      title.textContent = data.names[name] ?? name;
      said.push(`of the whole study: at most ${short(own)}`);
    } else {
      title.textContent = name;
      said.push(`class activation map, probability ${this.study.probabilities[name].toFixed(2)}: at most ${short(own)}, negative values shown as 0`);
    }
    if (!this.attention) return status.replaceChildren(title, ` · ${said.join(" · ")}.`);
    const scaled = own === 0 ? "empty: nothing above 0" : top !== own || (shared.checked && kind !== "map") ? "on the scale that all share" : "stretched to its own maximum";
    status.replaceChildren(title, ` · ${said.join(" · ")} · ${scaled}.`);
  }

  point(region) {
    this.region = region;
    const [view, row, column] = this.place(region);
    this.frames.forEach((frame, index) => {
      const { rows, columns, side } = this.study;
      frame.setAttribute("visibility", index === view ? "visible" : "hidden");
      frame.setAttribute("x", (column * side) / columns);
      frame.setAttribute("y", (row * side) / rows);
      frame.setAttribute("width", side / columns);
      frame.setAttribute("height", side / rows);
    });
    this.plot();
  }

  plot() {
    if (this.word === undefined) return;
    const canvas = this.card.querySelector(".plot canvas"), pen = canvas.getContext("2d"), side = canvas.width;
    const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name);
    const ofWord = this.memory.words.map(this.word), ofRegion = this.memory.regions.map(this.region);
    const most = Math.max(largest(ofWord), largest(ofRegion)) || 1;
    const dot = ([x, y], radius) => {
      pen.beginPath();
      pen.arc(side * (0.04 + 0.92 * x), side * (0.96 - 0.92 * y), radius, 0, 7);
    };
    pen.clearRect(0, 0, side, side);
    pen.fillStyle = colour("--vector");
    for (const place of data.layout) { dot(place, 2.5); pen.fill(); }
    const size = (weight) => 3 + 17 * Math.sqrt(weight / most);
    pen.fillStyle = colour("--of-word");
    pen.globalAlpha = 0.7;
    ofWord.forEach((weight, index) => { if (weight) { dot(data.layout[index], size(weight)); pen.fill(); } });
    pen.globalAlpha = 1;
    pen.strokeStyle = colour("--of-region");
    pen.lineWidth = 3;
    ofRegion.forEach((weight, index) => { if (weight) { dot(data.layout[index], size(weight)); pen.stroke(); } });
    const [view, row, column] = this.place(this.region);
    const common = ofWord.reduce((sum, weight, index) => sum + Math.min(weight, ofRegion[index]), 0);
    this.card.querySelector(".plot .the-word").textContent = `“${this.study.words[this.word].text}”`;
    this.card.querySelector(".plot .the-region").textContent = `view ${view + 1}, row ${row + 1}, column ${column + 1}`;
    this.card.querySelector(".plot .common").textContent = `${Math.round(100 * common)}%`;
  }
}

const studies = [...document.querySelectorAll(".study")].map((card, index) => new Study(card, data.studies[index]));
for (const control of [layer, heads, opacity, shared])
  control.addEventListener("input", () => studies.forEach((study) => study.show(study.shown)));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => studies.forEach((study) => study.memory && study.plot()));
