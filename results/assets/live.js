// A run while it goes on: one event a second, drawn as text and two small pictures. Everything is set as text.
"use strict";
const root = document.documentElement;
const fault = (text) => root.setAttribute("data-errors", (root.getAttribute("data-errors") || "") + text + " | ");
window.addEventListener("error", (e) => fault(String(e.message)));
window.addEventListener("unhandledrejection", (e) => fault(String(e.reason)));
document.addEventListener("securitypolicyviolation", (e) => fault("policy: " + e.violatedDirective));
root.setAttribute("data-script", "");

const $ = (id) => document.getElementById(id);
const live = $("live"), SVG = "http://www.w3.org/2000/svg", NONE = "–";
const COLOURS = ["network", "process", "disk", "clock", "membership"];
const seconds = new Map(); // second -> [second, ok, fail, info, p50, p99]
let stream = null, over = false;

const count = (n) => n.toLocaleString("en-US");
const ms = (n) => (n == null ? NONE : n >= 100 ? n.toFixed(0) + " ms" : n >= 1 ? n.toFixed(1) + " ms" : n.toFixed(2) + " ms");

function element(name, text, kind) {
  const made = document.createElement(name);
  if (text != null) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}
function svg(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const key in attributes) made.setAttribute(key, attributes[key]);
  if (text != null) made.textContent = text;
  return made;
}
const colour = (name) => "c-" + (COLOURS.includes(name) ? name : "other");

function picture(title, unit, names, columns, data, from, to) {
  const W = 1176, H = 116, LEFT = 52, FOOT = 18;
  const box = svg("svg", { viewBox: `0 0 ${W} ${H + FOOT}`, role: "img", "aria-label": title });
  const x = (s) => LEFT + ((s - from) / Math.max(1, to - from)) * (W - LEFT);
  const all = data.flatMap((row) => columns.map((c) => row[c])).filter((v) => v != null);
  const most = Math.max(1e-9, ...all), power = 10 ** Math.floor(Math.log10(most));
  const top = [1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10].map((k) => k * power).find((v) => v >= most * 0.9999);
  const y = (v) => H - (v / top) * (H - 10);
  for (const band of bands) {
    const left = Math.max(x(band.from_s), LEFT), right = x(Math.min(band.to_s == null ? now : band.to_s, to));
    if (right <= left) continue;
    const part = svg("g", { class: colour(band.colour) });
    part.append(svg("rect", { class: "band", x: left, y: 0, width: right - left, height: H }));
    part.append(svg("title", {}, `${band.label}: ${band.says}`));
    if (columns[0] === 1 && right - left > 18) part.append(svg("text", { x: left + 4, y: 11 }, band.glyph));
    box.append(part);
  }
  for (const share of [0, 0.5, 1]) {
    box.append(svg("line", { class: "grid", x1: LEFT, x2: W, y1: y(share * top), y2: y(share * top) }));
    box.append(svg("text", { x: LEFT - 8, y: y(share * top) + 4, "text-anchor": "end" }, String(+(share * top).toPrecision(3))));
  }
  const step = [1, 2, 5, 10, 20, 30, 60, 120].find((s) => (to - from) / s <= 12) || 120;
  for (let s = Math.ceil(from / step) * step; s <= to; s += step) box.append(svg("text", { x: x(s), y: H + 14, "text-anchor": "middle" }, s + " s"));
  columns.forEach((c, i) => {
    let path = "", pen = "M", before = null;
    for (const row of data) {
      if (row[c] == null || (before != null && row[0] > before + 1)) pen = "M";
      before = row[0];
      if (row[c] == null) continue;
      path += `${pen}${x(row[0] + 0.5).toFixed(1)} ${y(row[c]).toFixed(1)}`;
      pen = "L";
    }
    if (path) box.append(svg("path", { class: "p-" + names[i], d: path }));
  });
  const figure = element("figure"), caption = element("figcaption", title + " "), legend = element("span", null, "legend");
  caption.append(element("span", unit, "unit"));
  names.forEach((name) => {
    const one = element("span"), line = svg("svg", { viewBox: "0 0 22 12" });
    line.append(svg("path", { class: "p-" + name, d: "M0 6H22" }));
    one.append(line, name);
    legend.append(one);
  });
  caption.append(legend);
  figure.append(caption, box);
  return figure;
}

let bands = [], now = 0;
function draw(s) {
  bands = s.bands;
  now = s.elapsed_s;
  for (const row of s.series) seconds.set(row[0], row);
  while (seconds.size > 600) seconds.delete(Math.min(...seconds.keys()));
  $("phase").textContent = s.words;
  const bar = $("progress");
  bar.hidden = s.loading_s == null || !s.load_s;
  if (!bar.hidden) bar.value = Math.min(1, s.loading_s / s.load_s);
  $("elapsed").textContent = s.elapsed_s.toFixed(0) + " s";
  $("rate").textContent = count(s.rate);
  $("p50").textContent = ms(s.p50_ms);
  $("p99").textContent = ms(s.p99_ms);
  for (const kind of ["ok", "fail", "info"]) $(kind).textContent = count(s[kind]);
  $("leader").textContent = s.leader ? s.leader + (s.term == null ? "" : ", term " + s.term) : NONE;
  $("nodes").replaceChildren(...s.nodes.map((n) => {
    const row = element("li");
    const words = n.ok ? [n.role || "unknown", n.term == null ? "" : "term " + n.term, n.applied == null ? "" : "applied " + n.applied] : ["silent", n.error];
    row.append(element("b", n.node), element("span", (n.role === "leader" && n.ok ? "★ " : n.ok ? "" : "✕ ") + words.filter(Boolean).join(", "), n.ok ? (n.role === "leader" ? "leads" : "") : "silent"));
    return row;
  }));
  if (!s.nodes.length) $("nodes").append(element("li", "not seen yet", "note"));
  $("faults").replaceChildren(...s.faults.map((f) => {
    const row = element("li", null, colour(f.colour));
    row.append(element("span", f.glyph, "glyph"), element("span", `${f.label}: ${f.says}`), element("span", Math.max(0, s.elapsed_s - f.from_s).toFixed(0) + " s", "note"));
    return row;
  }));
  if (!s.faults.length) $("faults").append(element("li", "none in force", "note"));
  $("begun").textContent = s.faults_begun + " so far";
  $("said").textContent = s.said;
  $("said").className = s.violations ? "bad" : "";
  // The second that has not passed yet would look like a drop.
  const data = [...seconds.values()].filter((row) => !s.alive || row[0] < Math.floor(now)).sort((a, b) => a[0] - b[0]);
  if (data.length) {
    const from = data[0][0], to = Math.max(from + 10, data[data.length - 1][0] + 1);
    $("strips").replaceChildren(
      picture("Operations", "per second, by outcome", ["ok", "fail", "info"], [1, 2, 3], data, from, to),
      picture("Latency", "ms, of ok", ["p50", "p99"], [4, 5], data, from, to),
    );
  }
  root.setAttribute("data-events", String(+(root.getAttribute("data-events") || 0) + 1));
}

function end(state, note, again) {
  over = true;
  stream.close();
  live.setAttribute("data-state", state);
  $("note").textContent = note;
  $("again").hidden = !again;
}

function follow() {
  if (over || stream) return;
  stream = new EventSource(live.dataset.stream);
  stream.addEventListener("state", (e) => { $("note").textContent = ""; draw(JSON.parse(e.data)); });
  stream.addEventListener("over", (e) => { draw(JSON.parse(e.data)); end("over", "The run has ended. Its report follows.", false); setTimeout(() => location.reload(), 1200); });
  stream.addEventListener("cut", (e) => { draw(JSON.parse(e.data)); $("phase").textContent = "cut off"; end("cut", "The run has no results and nothing of it is alive: it was killed. What it wrote until then:", true); });
  stream.addEventListener("gone", () => end("gone", "The run's directory is gone.", false));
  stream.addEventListener("error", () => { if (!over) $("note").textContent = "No answer from the server; trying again."; });
}
// A page that nobody looks at holds no connection: a browser has six for a host.
document.addEventListener("visibilitychange", () => {
  if (over) return;
  if (document.hidden && stream) { stream.close(); stream = null; } else if (!document.hidden) follow();
});
follow();
root.setAttribute("data-ready", "true");
