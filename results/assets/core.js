// Errors made visible, data decoded, and the one view (from, to) that all plots share.

const root = document.documentElement;
function fault(text) {
  const seen = root.getAttribute("data-errors");
  root.setAttribute("data-errors", (seen ? seen + " | " : "") + text);
}
window.addEventListener("error", (e) => fault(String(e.message)));
window.addEventListener("unhandledrejection", (e) => fault(String(e.reason)));
document.addEventListener("securitypolicyviolation", (e) => fault("policy: " + e.violatedDirective));
root.setAttribute("data-script", "");

const $ = (id) => document.getElementById(id);
const meta = JSON.parse($("meta").textContent) || { until: 0, phases: [], faults: [], nodes: [], events: [], cases: [] };
const INVOKE_ONLY = 0xffffffff;
const OK = 1, FAIL = 2, INFO = 3;
const OUTCOMES = ["", "ok", "fail", "info"];
const grouped = ((figures) => (n) => figures.format(n))(new Intl.NumberFormat("en")); // making one takes longer than a plot
const clamp = (x, low, high) => Math.max(low, Math.min(high, x));

function fromBase64(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const raw = atob(text), out = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) out[i] = raw.charCodeAt(i);
  return out;
}

async function gunzip(bytes) {
  if (typeof DecompressionStream === "undefined") {
    throw new Error("this browser cannot decompress (DecompressionStream is missing); a newer one can");
  }
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// The columns, and the values where they are in the page.
async function unpack() {
  const block = $("columns");
  const bytes = fromBase64(block.textContent.trim());
  block.textContent = ""; // a large page need not hold its data twice
  let at = 0;
  return Promise.all(meta.packed.map(([size, encoding]) => {
    const part = bytes.subarray(at, (at += size));
    return encoding === "gzip" ? gunzip(part) : part;
  }));
}

// Bytes regrouped by significance back into numbers; what grows is a running sum of zigzagged steps.
function column(bytes, at, n) {
  const { size, grows, offset } = at;
  const out = size === 1 ? new Uint8Array(n) : size === 2 ? new Uint16Array(n) : new Uint32Array(n);
  for (let b = 0; b < size; b++) {
    const plane = offset + b * n, unit = 256 ** b;
    for (let i = 0; i < n; i++) out[i] += bytes[plane + i] * unit;
  }
  if (!grows) return out;
  const sums = new Float64Array(n);
  let sum = 0;
  for (let i = 0; i < n; i++) {
    const z = out[i];
    sum += z % 2 ? -(z + 1) / 2 : z / 2;
    sums[i] = sum;
  }
  return sums;
}

function decode([bytes, text]) {
  const given = meta.ops, n = given.n, ops = { n, names: given };
  for (const at of given.columns) ops[at.name] = column(bytes, at, n);
  for (let i = 0; i < n; i++) ops.start[i] /= 1e6; // us to s
  giveValues(ops, given, text);
  const named = processes(given);
  ops.processOf = (i) => named(ops, i);
  return ops;
}

// The name of the process that an operation belongs to: a lane's processes follow one another.
function processes(given) {
  const byLane = given.lanes.map(() => ({ from: [], names: [] }));
  for (const [name, lane, from] of given.processes) {
    byLane[lane].from.push(from);
    byLane[lane].names.push(name);
  }
  return (ops, i) => {
    const { from, names } = byLane[ops.lane[i]];
    return names[Math.max(lowerBound(from, ops.start[i] + 2e-6) - 1, 0)] || "";
  };
}

const visible = (text) => text.replace(
  /[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g,
  (c) => "[U+" + c.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0") + "]",
);

// What an operation was, in a few characters: the same words as in the tables.
function describe(ops, i) {
  const f = ops.names.f[ops.f[i]] || "", asked = ops.asked(i), answered = ops.answered(i);
  const pair = f === "cas" && /^\[([^,[\]{}]*),([^,[\]{}]*)\]$/.exec(asked);
  if (pair) return `cas ${pair[1].trim()} → ${pair[2].trim()}`;
  const shown = asked ? `${f} ${asked}` : f;
  return answered && ops.outcome[i] === OK ? `${shown} → ${answered}` : shown;
}

// --- the axis -----------------------------------------------------------------------------------

// Everything is placed along one axis: seconds, or the order of events, in which each invocation and
// completion takes the same space, so that a burst can be read beside a quiet stretch. A place on it
// is called u; in true time u is the time itself.
const END = Math.max(meta.until || 0, 1e-3);
const axis = { order: false, events: null };
function lowerBound(sorted, value, low = 0, high = sorted.length) {
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] < value) low = middle + 1;
    else high = middle;
  }
  return low;
}
function warp(t) {
  if (!axis.order) return t;
  const all = axis.events, j = lowerBound(all, t);
  if (j === 0) return 0;
  if (j >= all.length) return all.length - 1;
  return j - 1 + (t - all[j - 1]) / (all[j] - all[j - 1]);
}
function unwarp(u) {
  if (!axis.order) return u;
  const all = axis.events, j = clamp(Math.floor(u), 0, all.length - 1), next = Math.min(j + 1, all.length - 1);
  return all[j] + (all[next] - all[j]) * clamp(u - j, 0, 1);
}
function eventsOf(ops) {
  const all = new Float64Array(2 * ops.n + 2);
  let k = 1;
  for (let i = 0; i < ops.n; i++) {
    all[k++] = ops.start[i];
    if (ops.took[i] !== INVOKE_ONLY) all[k++] = ops.start[i] + ops.took[i] / 1e6;
  }
  all[k++] = END;
  return all.subarray(0, k).sort();
}

// --- the view -----------------------------------------------------------------------------------

const whole = { from: 0, to: END };
const view = { from: 0, to: END, start: 0, end: END }; // from, to: places; start, end: seconds
const drawers = [], watchers = [];
let asked = false;
function redraw() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => {
    asked = false;
    drawAll();
  });
}
function drawAll(everything = false) {
  if (!$("plots")) return; // a run of which nothing can be drawn
  const was = space.width;
  measure();
  if (!space.width) return; // a window that is closing, or folded away
  const all = everything || was !== space.width;
  for (const { draw, figure } of drawers) if (all || !figure || !unseen.has(figure)) draw();
}
// Draw with every frame; what belongs to a figure only while that is in sight, or nearly.
const unseen = new Set();
const sight = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) isIntersecting ? unseen.delete(target) : unseen.add(target);
  redraw();
}, { rootMargin: "150px" });
function eachFrame(draw, figure = null) {
  drawers.push({ draw, figure });
  if (figure) sight.observe(figure);
}
function changed() { // view, filter, lanes or selection: what stands in the address follows
  for (const watch of watchers) watch();
  redraw();
}
function look(from, to) {
  const least = axis.order ? 4 : 2e-5, full = whole.to - whole.from;
  const span = clamp(to - from, Math.min(least, full), full), start = clamp(from, whole.from, whole.to - span);
  view.from = start;
  view.to = start + span;
  view.start = unwarp(view.from);
  view.end = unwarp(view.to);
  changed();
}
const lookAt = (start, end) => look(warp(start), warp(end));
function zoom(factor, at = (view.from + view.to) / 2) {
  look(at - (at - view.from) * factor, at + (view.to - at) * factor);
}
const isWhole = () => view.to - view.from >= (whole.to - whole.from) * 0.9999;
function useOrder(ops, on) {
  if (axis.order === on) return;
  const { start, end } = view, full = isWhole();
  if (on && !axis.events) axis.events = eventsOf(ops);
  axis.order = on;
  whole.to = on ? axis.events.length - 1 : END;
  if (full) look(whole.from, whole.to);
  else lookAt(start, end);
}

// --- what is selected: a moment, and perhaps the operation that it belongs to ----------------------

const selected = { time: null, op: -1 };
// Everything that shows a moment follows this event: the plots, the table, the logs.
function select(seconds, op = -1) {
  if (selected.time === seconds && selected.op === op) return;
  selected.time = seconds;
  selected.op = op;
  document.dispatchEvent(new CustomEvent("splitbrain:time", { bubbles: true, detail: { seconds, op } }));
  changed();
}
function reveal(seconds) { // keeps the scale, moves only if it has to
  const span = view.to - view.from, margin = span * 0.08, at = warp(seconds);
  if (at < view.from + margin || at > view.to - margin) look(at - span / 2, at + span / 2);
}
window.splitbrain = {
  // Scroll to the plots, bring the moment into view (seconds since the run's start) and select it.
  goTo(seconds) {
    if (!Number.isFinite(seconds)) return;
    const t = clamp(seconds, 0, END);
    reveal(t);
    select(t);
    if ($("plots")) $("plots").scrollIntoView({ block: "start" });
  },
};
for (const name of ["click", "keydown"]) { // whatever carries a time leads to it: <button data-seconds="12.3">
  document.addEventListener(name, (event) => {
    const link = event.target.closest && event.target.closest("[data-seconds]");
    if (!link || (name === "keydown" && (event.key !== "Enter" || link.matches("button, a")))) return;
    event.preventDefault();
    window.splitbrain.goTo(Number(link.dataset.seconds));
  });
}

// --- geometry and colour ------------------------------------------------------------------------

const RIGHT = 24;
const space = { narrow: false, gutter: 66, width: 1000, plot: 900 };
function measure() { // once a frame: asking the document for each operation costs more than drawing it
  space.narrow = window.innerWidth <= 760;
  space.gutter = space.narrow ? 56 : 66;
  space.width = $("plots").clientWidth;
  space.plot = Math.max(space.width - space.gutter - RIGHT, 40);
}
const narrow = () => space.narrow;
const gutter = () => space.gutter;
const width = () => space.width;
const plotWidth = () => space.plot;
const uToX = (u) => space.gutter + ((u - view.from) / (view.to - view.from)) * space.plot;
const toX = (t) => uToX(warp(t));
const toU = (x) => view.from + ((x - space.gutter) / space.plot) * (view.to - view.from);
const toT = (x) => unwarp(toU(x));

let styles = getComputedStyle(root);
const colours = new Map(), repaints = [];
function colour(name) {
  if (!colours.has(name)) colours.set(name, styles.getPropertyValue("--" + name).trim() || "#888888");
  return colours.get(name);
}
function alpha(name, a) {
  return colour(name) + Math.round(a * 255).toString(16).padStart(2, "0");
}
for (const query of ["(prefers-color-scheme: dark)", "print"]) {
  window.matchMedia(query).addEventListener("change", () => {
    colours.clear();
    styles = getComputedStyle(root);
    for (const again of repaints) again();
    drawAll(true); // at once: a printer does not wait for the next frame
  });
}
const font = (px, weight = 400) => `${weight} ${px}px system-ui, -apple-system, "Segoe UI", Roboto, Arial, sans-serif`;

// A canvas at the device's resolution, empty, with the plot's area clipped off by the caller.
function surface(canvas, height) {
  const ratio = window.devicePixelRatio || 1, w = width();
  if (canvas.width !== Math.round(w * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(w * ratio);
    canvas.height = Math.round(height * ratio);
    canvas.style.height = height + "px";
  }
  const c = canvas.getContext("2d", { alpha: false }); // opaque: nothing to blend with the page
  c.setTransform(ratio, 0, 0, ratio, 0, 0);
  c.fillStyle = colour("paper");
  c.fillRect(0, 0, w, height);
  return c;
}
function clipped(c, height, draw) {
  c.save();
  c.beginPath();
  c.rect(gutter(), 0, plotWidth(), height);
  c.clip();
  draw();
  c.restore();
}

// Text cut to a width. Measuring is cached, since every frame asks for the same; a canvas asked for its font spells it anew.
const measured = new Map();
let face = "";
function useFont(c, name) {
  c.font = face = name;
}
function widthOf(c, text) { // in the font that was used last
  const key = face + text;
  let w = measured.get(key);
  if (w === undefined) {
    if (measured.size > 5000) measured.clear();
    measured.set(key, (w = c.measureText(text).width));
  }
  return w;
}
function fit(c, text, most) {
  if (most <= 0) return "";
  const w = widthOf(c, text);
  if (w <= most) return text;
  const n = Math.floor((text.length * most) / w) - 1;
  return n > 1 ? text.slice(0, n) + "…" : "";
}

// Ticks at 1, 2 or 5 times a power of ten, and how many decimals they need.
function ticks(from, to, wanted) {
  const raw = (to - from) / Math.max(wanted, 1), power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((k) => k * power).find((s) => s >= raw);
  const places = Math.max(0, -Math.floor(Math.log10(step) + 1e-9)), out = [];
  for (let k = Math.ceil(from / step - 1e-9); k * step <= to + step * 1e-9; k++) out.push(k * step);
  return { out, places, step };
}
const time = (s) => {
  const span = view.end - view.start;
  return s.toFixed(span > 20 ? 2 : span > 0.5 ? 3 : 6) + " s";
};
const clock = (s) => (meta.epoch ? new Date((meta.epoch + s) * 1e3).toISOString().slice(11, 23) + " UTC" : "");
const length = (s) => (s >= 1 ? s.toPrecision(3) + " s" : s >= 1e-3 ? (s * 1e3).toPrecision(3) + " ms" : (s * 1e6).toFixed(0) + " µs");

// --- the tip ------------------------------------------------------------------------------------

function tip(event, title, rows) {
  const box = $("tip");
  box.replaceChildren();
  const strong = document.createElement("strong");
  strong.textContent = title;
  box.append(strong);
  const list = document.createElement("div");
  rowsInto(list, rows, "span", "span");
  box.append(list);
  box.hidden = false;
  const w = box.offsetWidth, h = box.offsetHeight;
  box.style.left = clamp(event.clientX + 16, 8, window.innerWidth - w - 8) + "px";
  box.style.top = (event.clientY + 20 + h > window.innerHeight ? Math.max(event.clientY - h - 14, 8) : event.clientY + 20) + "px";
}
function rowsInto(box, rows, nameTag, textTag) { // always text: what a system wrote is never markup
  box.replaceChildren();
  for (const [name, text] of rows) {
    if (text === "" || text == null) continue;
    const row = document.createElement("div"), a = document.createElement(nameTag), b = document.createElement(textTag);
    a.textContent = name;
    b.textContent = text;
    row.append(a, b);
    box.append(row);
  }
}
function show(element, on) { // an attribute that is set again costs a look at the styles, whatever it was
  if (element.hidden === on) element.hidden = !on;
}
const untip = () => show($("tip"), false);
