// Reads values from charts by mouse, finger and arrow keys. What is drawn is in data-chart, as JSON;
// data-tip is a text. Nothing is loaded, and texts are never parsed as HTML.
const MANY = 8;  // Of more lines than this, the one next to the pointer is read.
const axisPlace = ([low, high, isLog], value) => {
  const f = isLog ? Math.log : Number;
  return (f(value) - f(low)) / (f(high) - f(low));
};
const count = value => value.toLocaleString("en-US", {maximumSignificantDigits: 9});
const element = (name, className, parent, text = "") => {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return parent.appendChild(made);
};

/** Index of the value next to x in ascending values. */
function nearest(values, x) {
  let low = 0, high = values.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (values[middle] <= x) low = middle; else high = middle;
  }
  return x - values[low] <= values[high] - x ? low : high;
}

/** Puts the tip beside a place, inside of its box. */
function putTip(tip, box, x, y) {
  const beside = x + 14 + tip.offsetWidth <= box.clientWidth ? x + 14 : x - 14 - tip.offsetWidth;
  tip.style.left = `${Math.max(0, Math.min(beside, box.clientWidth - tip.offsetWidth))}px`;
  tip.style.top = `${y}px`;
}

class Chart {
  constructor(plot) {
    this.plot = plot;
    this.svg = plot.querySelector("svg");
    const title = this.svg.querySelector("title");
    plot.tabIndex = 0;
    plot.setAttribute("role", "slider");
    plot.setAttribute("aria-label", title.textContent);
    plot.setAttribute("aria-valuetext", this.svg.querySelector("desc").textContent);
    plot.setAttribute("aria-valuenow", 0);
    title.remove();  // The browser's own tip would cover ours.
    this.svg.addEventListener("pointermove", event => this.point(event));
    this.svg.addEventListener("pointerdown", event => this.point(event));
    this.svg.addEventListener("pointerleave", event => event.pointerType === "mouse" && this.hide());
    plot.addEventListener("keydown", event => this.key(event));
    plot.addEventListener("blur", () => this.hide());
  }

  open() {
    if (this.data) return;
    this.data = JSON.parse(this.plot.dataset.chart);
    // Each line has a group in the picture, from which the tip takes its colour and dashes.
    const groups = this.svg.querySelectorAll("g");
    this.lines = this.data.lines.map((line, i) => ({...line, group: groups[i]}))
      .filter(line => line.x.length);
    const all = Float64Array.from(this.lines.flatMap(line => line.x)).sort();
    this.stops = all.filter((x, i) => i === 0 || x !== all[i - 1]);
    this.stop = this.stops.length - 1;
    this.chosen = 0;
    this.cursor = element("div", "cursor", this.plot);
    this.tip = element("div", "tip", this.plot);
    this.plot.setAttribute("aria-valuemin", this.stops[0] ?? 0);
    this.plot.setAttribute("aria-valuemax", this.stops.at(-1) ?? 0);
  }

  point(event) {
    this.open();
    if (!this.stops.length) return;
    const box = this.svg.getBoundingClientRect();
    const [low, high, isLog] = this.data.xs, place = (event.clientX - box.left) / box.width;
    const x = isLog ? low * (high / low) ** place : low + place * (high - low);
    this.stop = nearest(this.stops, x);
    if (this.lines.length > MANY) {
      const y = 1 - (event.clientY - box.top) / box.height;
      const away = this.lines.map(line => {
        const value = line.y[nearest(line.x, x)];
        return typeof value === "number" ? Math.abs(axisPlace(this.data.ys, value) - y) : Infinity;
      });
      this.chosen = away.indexOf(Math.min(...away));
    }
    this.show();
  }

  key(event) {
    this.open();
    const last = this.stops.length - 1, page = Math.ceil(this.stops.length / 10);
    const isShown = !this.tip.hidden && this.tip.textContent;
    const moves = {
      ArrowLeft: -1, ArrowRight: 1, PageUp: page, PageDown: -page, Home: -last, End: last,
    };
    if (event.key === "Escape") this.hide();
    else if (last < 0) return;
    else if (event.key in moves) {
      if (isShown) this.stop = Math.max(0, Math.min(last, this.stop + moves[event.key]));
      else if (event.key === "Home") this.stop = 0;
      this.show();
    } else if (event.key === "ArrowUp" || event.key === "ArrowDown") {
      const move = event.key === "ArrowUp" ? -1 : 1, size = this.lines.length;
      if (isShown) this.chosen = (this.chosen + move + size) % size;
      this.show();
    } else return;
    event.preventDefault();
  }

  show() {
    const x = this.stops[this.stop], isMany = this.lines.length > MANY, said = [];
    this.tip.hidden = this.cursor.hidden = false;
    this.tip.replaceChildren();
    const heading = `${this.data.x} ${count(x)}`;
    element("div", "tip-x", this.tip, heading);
    this.lines.forEach((line, number) => {
      if (isMany && number !== this.chosen) return;
      const at = nearest(line.x, x), value = line.y[at];
      const row = element("div", "tip-line", this.tip);
      element("i", line.group.firstElementChild?.getAttribute("class") ?? "", row);
      const elsewhere = line.x[at] === x ? "" : ` at ${count(line.x[at])}`;
      element("span", "", row, line.name + elsewhere);
      element("b", "", row, String(value ?? "nan"));
      said.push(`${line.name}${elsewhere} ${value ?? "nan"}`);
    });
    this.lines.forEach((line, number) =>
      line.group.classList.toggle("chosen", isMany && number === this.chosen));
    const box = this.svg.getBoundingClientRect(), outer = this.plot.getBoundingClientRect();
    const middle = box.left - outer.left + box.width * axisPlace(this.data.xs, x);
    this.cursor.style.left = `${middle}px`;
    this.cursor.style.height = `${box.height}px`;
    putTip(this.tip, this.plot, middle, 4);
    this.plot.setAttribute("aria-valuenow", x);
    this.plot.setAttribute("aria-valuetext", `${heading}: ${said.join(", ")}`);
  }

  hide() {
    if (!this.data) return;
    this.tip.hidden = this.cursor.hidden = true;
    this.lines.forEach(line => line.group.classList.remove("chosen"));
  }
}

for (const plot of document.querySelectorAll("[data-chart]")) new Chart(plot);

const tip = element("div", "tip", document.body);
tip.hidden = true;
function overTip(event) {
  const target = event.target.closest?.("[data-tip]");
  tip.hidden = !target;
  if (!target) return;
  tip.textContent = target.dataset.tip;
  putTip(tip, document.documentElement, event.pageX, event.pageY + 16);
}
document.addEventListener("pointermove", overTip);
document.addEventListener("pointerdown", overTip);
