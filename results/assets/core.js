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
const clamp = (x, low, high) => Math.max(low, Math.min(high, x));

function fromBase64(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const raw = atob(text), out = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) out[i] = raw.charCodeAt(i);
  return out;
}

async function unpack() {
  const block = $("columns");
  const bytes = fromBase64(block.textContent.trim());
  block.textContent = ""; // a large page need not hold its data twice
  if (meta.encoding !== "gzip") return bytes;
  if (typeof DecompressionStream === "undefined") {
    throw new Error("this browser cannot decompress (DecompressionStream is missing); a newer one can");
  }
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
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

function decode(bytes) {
  const given = meta.ops, n = given.n, ops = { n, names: given };
  for (const at of given.columns) ops[at.name] = column(bytes, at, n);
  for (let i = 0; i < n; i++) ops.start[i] /= 1e6; // us to s
  if (given.values) {
    const lengths = bytes.subarray(given.values.offset, given.values.offset + 2 * n);
    const text = bytes.subarray(given.values.offset + 2 * n);
    const ends = new Uint32Array(2 * n);
    for (let i = 0, sum = 0; i < 2 * n; i++) ends[i] = sum += lengths[i];
    const utf8 = new TextDecoder();
    const part = (i) => visible(utf8.decode(text.subarray(ends[i] - lengths[i], ends[i])));
    ops.asked = (i) => part(i);
    ops.answered = (i) => part(n + i);
  } else {
    ops.asked = ops.answered = () => "";
  }
  return ops;
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

// --- the view -----------------------------------------------------------------------------------

const whole = { from: 0, to: Math.max(meta.until || 0, 1e-3) };
const view = { from: whole.from, to: whole.to };
const drawers = [];
let asked = false;
function redraw() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => {
    asked = false;
    drawAll();
  });
}
function drawAll() {
  measure();
  for (const draw of drawers) draw();
}
function look(from, to) {
  const span = clamp(to - from, 2e-5, whole.to - whole.from);
  const start = clamp(from, whole.from, whole.to - span);
  view.from = start;
  view.to = start + span;
  redraw();
}
function zoom(factor, at = (view.from + view.to) / 2) {
  look(at - (at - view.from) * factor, at + (view.to - at) * factor);
}

// --- what is selected: a moment, and perhaps the operation that it belongs to ----------------------

const selected = { time: null, op: -1 };
// Everything that shows a moment follows this event: the plots, the table, the logs.
function select(seconds, op = -1) {
  if (selected.time === seconds && selected.op === op) return;
  selected.time = seconds;
  selected.op = op;
  document.dispatchEvent(new CustomEvent("splitbrain:time", { bubbles: true, detail: { seconds, op } }));
  redraw();
}
function reveal(seconds) { // keeps the scale, moves only if it has to
  const span = view.to - view.from, margin = span * 0.08;
  if (seconds < view.from + margin || seconds > view.to - margin) look(seconds - span / 2, seconds + span / 2);
}
window.splitbrain = {
  // Scroll to the plots, bring the moment into view (seconds since the run's start) and select it.
  goTo(seconds) {
    if (!Number.isFinite(seconds)) return;
    const t = clamp(seconds, whole.from, whole.to);
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

const RIGHT = 12;
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
const toX = (t) => space.gutter + ((t - view.from) / (view.to - view.from)) * space.plot;
const toT = (x) => view.from + ((x - space.gutter) / space.plot) * (view.to - view.from);

let styles = getComputedStyle(root);
const colours = new Map();
function colour(name) {
  if (!colours.has(name)) colours.set(name, styles.getPropertyValue("--" + name).trim() || "#888888");
  return colours.get(name);
}
function alpha(name, a) {
  return colour(name) + Math.round(a * 255).toString(16).padStart(2, "0");
}
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  colours.clear();
  styles = getComputedStyle(root);
  redraw();
});
const font = (px, weight = 400) => `${weight} ${px}px system-ui, -apple-system, "Segoe UI", Roboto, Arial, sans-serif`;

// A canvas at the device's resolution, cleared, with the plot's area clipped off by the caller.
function surface(canvas, height) {
  const ratio = window.devicePixelRatio || 1, w = width();
  if (canvas.width !== Math.round(w * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(w * ratio);
    canvas.height = Math.round(height * ratio);
    canvas.style.height = height + "px";
  }
  const c = canvas.getContext("2d");
  c.setTransform(ratio, 0, 0, ratio, 0, 0);
  c.clearRect(0, 0, w, height);
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

// Text cut to a width; measuring is cached, since every frame asks for the same.
const measured = new Map();
function fit(c, text, most) {
  const key = c.font + text;
  let w = measured.get(key);
  if (w === undefined) {
    if (measured.size > 5000) measured.clear();
    measured.set(key, (w = c.measureText(text).width));
  }
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
  const span = view.to - view.from;
  return s.toFixed(span > 20 ? 2 : span > 0.5 ? 3 : 6) + " s";
};
const length = (s) => (s >= 1 ? s.toPrecision(3) + " s" : s >= 1e-3 ? (s * 1e3).toPrecision(3) + " ms" : (s * 1e6).toFixed(0) + " µs");

// --- the tip ------------------------------------------------------------------------------------

function tip(event, title, rows) {
  const box = $("tip");
  box.replaceChildren();
  const strong = document.createElement("strong");
  strong.textContent = title;
  box.append(strong);
  for (const [name, text] of rows) {
    if (text === "" || text == null) continue;
    const row = document.createElement("div"), a = document.createElement("span"), b = document.createElement("span");
    a.textContent = name;
    b.textContent = text;
    row.append(a, b);
    box.append(row);
  }
  box.hidden = false;
  const w = box.offsetWidth, h = box.offsetHeight;
  box.style.left = clamp(event.clientX + 16, 8, window.innerWidth - w - 8) + "px";
  box.style.top = (event.clientY + 20 + h > window.innerHeight ? Math.max(event.clientY - h - 14, 8) : event.clientY + 20) + "px";
}
const untip = () => ($("tip").hidden = true);
