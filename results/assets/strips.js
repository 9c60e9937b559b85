// The strips above the timeline: faults, rate, latency, roles. All share the view's time axis.

const faults = meta.faults.map((f) => ({ ...f, until: f.to === null ? END : f.to }));

// Overlapping faults stand in rows below one another.
const faultRows = [];
for (const f of faults) {
  let row = faultRows.findIndex((end) => end <= f.from);
  if (row < 0) row = faultRows.push(0) - 1;
  faultRows[row] = f.until;
  f.row = row;
}

function faultBands(c, top, height) {
  for (const f of faults) {
    const a = toX(f.from), b = toX(f.until);
    if (b < gutter() || a > width() - RIGHT) continue;
    c.fillStyle = alpha(f.colour, 0.1);
    c.fillRect(a, top, Math.max(b - a, 1), height);
    c.fillStyle = alpha(f.colour, 0.5);
    c.fillRect(a, top, 1, height);
    c.fillRect(b - 1, top, 1, height);
  }
}

function drawRibbon() {
  const canvas = $("ribbon"), h = 22, height = Math.max(faultRows.length, 1) * (h + 3) + 16;
  const c = surface(canvas, height);
  c.textBaseline = "middle";
  clipped(c, height, () => {
    useFont(c, font(11.5));
    c.fillStyle = colour("faint");
    let last = -Infinity;
    for (const [name, t] of meta.phases) {
      const x = toX(t);
      c.fillStyle = colour("line");
      c.fillRect(x, 0, 1, height);
      c.fillStyle = colour("faint");
      if (name === "end") continue;
      const w = widthOf(c, name), left = x + 4 + w <= gutter() + plotWidth() ? x + 4 : x - 4 - w; // at the end before its line
      if (left - last > 4) {
        c.fillText(name, left, 7);
        last = left + w;
      }
    }
    for (const f of faults) {
      const a = toX(f.from), b = toX(f.until), y = 15 + f.row * (h + 3);
      if (b < gutter() || a > width()) continue;
      const w = Math.max(b - a, 3);
      c.fillStyle = alpha(f.colour, 0.22);
      c.fillRect(a, y, w, h);
      c.strokeStyle = colour(f.colour);
      c.lineWidth = 1;
      c.setLineDash(f.effective ? [] : [3, 3]);
      c.strokeRect(a + 0.5, y + 0.5, w - 1, h - 1);
      c.setLineDash([]);
      c.fillStyle = colour(f.colour);
      useFont(c, font(12.5, 600));
      const left = Math.max(a, gutter());
      c.fillText(fit(c, `${f.glyph} ${f.label}`.trim(), b - left - 10), left + 6, y + h / 2 + 1);
    }
  });
  if (!faults.length) {
    useFont(c, font(13));
    c.fillStyle = colour("faint");
    c.fillText("none", gutter() + 4, 26);
  }
}
function sayRibbon() { // what stands on the canvases, for those who cannot see them
  const list = faults.map((f) => `${f.label} from ${f.from.toFixed(1)} to ${f.to === null ? "the end" : f.to.toFixed(1) + " s"}`);
  $("ribbon").setAttribute("aria-label", list.length ? "Faults in force: " + list.join("; ") : "No faults");
  const leaders = (meta.leaders || []).slice(0, 50).map(([t, node, term]) => `${node}${term === null ? "" : ` in term ${term}`} from ${t.toFixed(1)} s`);
  $("roles").setAttribute("aria-label", leaders.length ? "Leaders: " + leaders.join("; ") : "No leader was seen");
}
const faultAt = (t, y) => faults.find((f) => f.from <= t && t <= f.until && y >= 15 + f.row * 25 && y < 37 + f.row * 25);

// --- rate and latency, by uPlot -----------------------------------------------------------------

const bins = meta.bins;
const DASHES = { solid: "", dashed: "5 3", dotted: "1.5 2.5" };

// A legend; with `counts` its figures follow the crosshair. Samples are drawn as the plots draw, so
// that line style and shape, not colour alone, tell series apart.
function legend(id, entries, counts = false) {
  const box = $(id), values = [];
  box.replaceChildren();
  for (const [name, role, style] of entries) {
    const item = document.createElement("span"), sample = document.createElement("canvas"), value = document.createElement("b");
    sample.width = 44;
    sample.height = 24;
    sample.style.cssText = "width:22px;height:12px";
    item.append(sample, name);
    if (counts) item.append(value);
    box.append(item);
    values.push(value);
    const draw = () => {
      const c = sample.getContext("2d");
      c.setTransform(2, 0, 0, 2, 0, 0);
      c.clearRect(0, 0, 22, 12);
      sampleOf(c, role, style, name);
    };
    draw();
    repaints.push(draw); // with the scheme, not with every frame
  }
  return values;
}
function sampleOf(c, role, style, name) {
  c.strokeStyle = c.fillStyle = colour(role);
  if (style === "shape") return bar(c, 3, 1, 16, 10, OUTCOMES.indexOf(name), true);
  if (style === "ticks") return [0, 6, 12, 18].forEach((x) => c.fillRect(x, 2, 4, 8));
  if (style === "block") return c.fillRect(1, 2, 20, name === "follower" ? 3 : 8);
  c.lineWidth = 2;
  c.setLineDash(DASHES[style].split(" ").filter(Boolean).map(Number));
  c.beginPath();
  c.moveTo(0, 6);
  c.lineTo(22, 6);
  c.stroke();
  c.setLineDash([]);
}

// One point of the latency plot: shape says the outcome before its colour does.
function point(c, x, y, outcome, r) {
  if (outcome === OK) c.fillRect(x - r, y - r, 2 * r, 2 * r);
  else if (outcome === FAIL) c.strokeRect(x - 2, y - 2, 4, 4);
  else {
    c.beginPath();
    c.moveTo(x, y - 3.6);
    c.lineTo(x + 3.4, y + 2.6);
    c.lineTo(x - 3.4, y + 2.6);
    c.closePath();
    c.fill();
  }
}

const POINTS = 2000; // drawn one by one, at most; beyond, the quantiles say it
let chartedOps = null; // once they are unpacked
function points(u) {
  const ops = chartedOps;
  if (!ops) return;
  const low = lowerBound(ops.start, view.start), high = lowerBound(ops.start, view.end);
  if (high - low > POINTS) return;
  const c = u.ctx, ratio = window.devicePixelRatio || 1, r = high - low > 1500 ? 1 : 1.75;
  c.save();
  c.beginPath();
  c.rect(u.bbox.left, u.bbox.top, u.bbox.width, u.bbox.height);
  c.clip();
  c.scale(ratio, ratio);
  for (const outcome of [OK, FAIL, INFO]) {
    c.fillStyle = c.strokeStyle = alpha(OUTCOMES[outcome], outcome === OK ? 0.45 : 0.9);
    c.lineWidth = 1;
    for (let i = low; i < high; i++) {
      if (ops.outcome[i] !== outcome || ops.took[i] === INVOKE_ONLY) continue;
      point(c, toX(ops.start[i] + ops.took[i] / 1e6), u.valToPos(Math.max(ops.took[i] / 1e3, 1e-3), "y", true) / ratio, outcome, r);
    }
  }
  c.restore();
}

function chart(id, height, series, data, more) {
  const axis = { stroke: () => colour("faint"), grid: { stroke: () => colour("line-soft"), width: 1 }, ticks: { show: false }, font: font(12) };
  const u = new uPlot({
    width: Math.max(width(), 80), height, padding: [8, RIGHT, more.x ? 0 : 7, 0], legend: { show: false }, select: { show: false },
    cursor: { show: false }, focus: { alpha: 1 },
    scales: { x: { time: false, auto: false, range: () => [view.from, view.to] }, y: more.y },
    axes: [
      { ...axis, show: more.x, size: 24, gap: 4, space: 95, values: (_, v) => secondsOf(v) },
      { ...axis, size: gutter, gap: 6, space: 26, values: more.values, ...(more.splits ? { splits: more.splits, filter: (_, v) => v } : {}) },
    ],
    series: [{}, ...series],
    hooks: {
      drawClear: [(v) => {
        const c = v.ctx, ratio = window.devicePixelRatio || 1;
        c.save();
        c.beginPath();
        c.rect(v.bbox.left, 0, v.bbox.width, v.bbox.top + v.bbox.height);
        c.clip();
        c.scale(ratio, ratio);
        faultBands(c, 0, (v.bbox.top + v.bbox.height) / ratio);
        c.restore();
        if (more.under) more.under(v);
      }],
    },
  }, data, $(id));
  $(id).setAttribute("aria-hidden", "true");
  let drawn = 0;
  eachFrame(() => {
    if (drawn !== width()) {
      drawn = width();
      u.setSize({ width: drawn, height });
    }
    u.setData(inSight(data, more.stepped), false);
    u.setScale("x", { min: view.from, max: view.to });
    u.redraw(true, true); // colours may have changed with the scheme
  }, $(id).parentElement);
}
// The part of a chart's data that can be seen, cut at the view's edges: a dashed line that goes on for
// a hundred widths beyond them costs more than all the rest.
const warped = new Map();
function inSight(data, stepped) {
  if (axis.order && !warped.has(data)) warped.set(data, data[0].map((t) => warp(t)));
  const xs = axis.order ? warped.get(data) : data[0], edge = (view.to - view.from) * 0.01;
  const low = Math.max(lowerBound(xs, view.from - edge) - 1, 0), past = Math.min(lowerBound(xs, view.to + edge) + 1, xs.length);
  const out = [xs.slice(low, past), ...data.slice(1).map((ys) => ys.slice(low, past))], n = past - low;
  if (n < 2) return out;
  for (const [end, beside, x] of [[0, 1, Math.max(out[0][0], view.from - edge)], [n - 1, n - 2, Math.min(out[0][n - 1], view.to + edge)]]) {
    const apart = out[0][end] - out[0][beside], part = apart ? (x - out[0][beside]) / apart : 1;
    for (const ys of stepped ? [] : out.slice(1)) { // the latency axis is logarithmic, and so is a line on it
      if (ys[end] > 0 && ys[beside] > 0) ys[end] = ys[beside] * (ys[end] / ys[beside]) ** part;
    }
    out[0][end] = x;
  }
  return out;
}
function secondsOf(values) {
  if (axis.order) return values.map((u) => unwarp(u).toFixed(3) + " s");
  // As many decimals as tell every label as it is: steps may be 0.05 s, or 0.25 s.
  const close = values.length > 1 ? (values[1] - values[0]) / 1000 : 1e-7;
  let places = 0;
  while (places < 6 && values.some((v) => Math.abs(Number(v.toFixed(places)) - v) > close)) places++;
  return values.map((v) => v.toFixed(places) + " s");
}

const line = (role, style, more = {}) => ({
  stroke: () => colour(role), width: 1.6, points: { show: false },
  dash: DASHES[style].split(" ").filter(Boolean).map(Number), ...more,
});

let rateValues = [], latencyValues = [];
function makeCharts() {
  if (!bins) {
    $("fig-rate").hidden = $("fig-latency").hidden = true;
    return;
  }
  const middle = Array.from({ length: bins.n }, (_, i) => (i + 0.5) * bins.width);
  const stepped = uPlot.paths.stepped({ align: 1 }), left = middle.map((x) => x - bins.width / 2);
  const most = Math.max(1, ...bins.ok, ...bins.fail, ...bins.info);
  chart("rate", 116, [
    line("ok", "solid", { paths: stepped, fill: () => alpha("ok", 0.13) }),
    line("fail", "dashed", { paths: stepped }),
    line("info", "dotted", { paths: stepped, width: 2 }),
  ], [left, bins.ok, bins.fail, bins.info], {
    x: false, stepped: true, y: { range: () => [0, most * 1.06] }, values: (_, v) => v.map(grouped),
  });
  const low = Math.max(bins.least_ms, 1e-3) * 0.7, high = Math.max(bins.most_ms * 1.6, low * 10);
  const decades = [];
  for (let k = Math.ceil(Math.log10(low)); 10 ** k <= high; k++) decades.push(Number((10 ** k).toPrecision(1)));
  chart("latency", 184, [
    line("ink", "solid"), line("soft", "dashed"), line("soft", "dotted"),
  ], [middle, bins.p50, bins.p95, bins.p99], {
    x: true, y: { distr: 3, range: () => [low, high] }, under: points, splits: () => decades,
    values: (_, v) => v.map((n) => (n >= 1000 ? n / 1000 + " s" : n + " ms")),
  });
  rateValues = legend("rate-legend", [["ok", "ok", "solid"], ["fail", "fail", "dashed"], ["info", "info", "dotted"]], true);
  latencyValues = legend("latency-legend", [["p50", "ink", "solid"], ["p95", "soft", "dashed"], ["p99", "soft", "dotted"]], true);
}
function readOut(t) {
  const i = bins && t !== null ? Math.floor(t / bins.width) : -1;
  const put = (boxes, names, text) => boxes.forEach((b, k) => {
    const v = i >= 0 && i < bins.n ? bins[names[k]][i] : null;
    b.textContent = v === null ? "" : text(v);
  });
  put(rateValues, ["ok", "fail", "info"], (v) => grouped(Math.round(v)));
  put(latencyValues, ["p50", "p95", "p99"], (v) => v.toPrecision(3));
}

// --- roles --------------------------------------------------------------------------------------

const ROLE_LANE = 24;
function drawRoles() {
  const nodes = meta.nodes, height = nodes.length * ROLE_LANE + 4;
  const c = surface($("roles"), height);
  c.textBaseline = "middle";
  nodes.forEach((node, k) => {
    const y = k * ROLE_LANE, middle = y + ROLE_LANE / 2;
    useFont(c, font(12.5, 550));
    c.fillStyle = colour("soft");
    c.fillText(fit(c, node.node, gutter() - 10), 2, middle);
    clipped(c, height, () => {
      if (k === 0) faultBands(c, 0, height);
      for (const [from, to, role, term] of node.spans) {
        const a = toX(from), b = Math.max(toX(to), a + 1);
        if (b < gutter() || a > width()) continue;
        if (role === "leader") {
          c.fillStyle = colour("leader");
          c.fillRect(a, y + 3, b - a, ROLE_LANE - 6);
        } else if (role === "down") {
          c.strokeStyle = colour("down");
          c.lineWidth = 1.5;
          c.setLineDash([2, 3]);
          c.beginPath();
          c.moveTo(a, middle);
          c.lineTo(b, middle);
          c.stroke();
          c.setLineDash([]);
          c.beginPath();
          c.moveTo(a - 3, middle - 4); c.lineTo(a + 4, middle + 4);
          c.moveTo(a + 4, middle - 4); c.lineTo(a - 3, middle + 4);
          c.stroke();
        } else if (role === "follower" || role === "learner") {
          c.fillStyle = colour("follower");
          c.fillRect(a, middle - (role === "learner" ? 0.5 : 1.5), b - a, role === "learner" ? 1 : 3);
        } else {
          c.fillStyle = colour("candidate");
          for (let x = a; x < b; x += 6) c.fillRect(x, middle - 4, Math.min(4, b - x), 8);
        }
        const left = Math.max(a, gutter());
        if (term !== null && role === "leader") {
          useFont(c, font(11.5, 600));
          c.fillStyle = colour("paper");
          c.fillText(fit(c, b - left > 60 ? `term ${term}` : String(term), b - left - 8), left + 6, middle + 0.5);
        }
      }
      c.fillStyle = colour("unknown");
      for (const [t, name] of meta.events) {
        if (name !== node.node) continue;
        const x = toX(t);
        c.beginPath();
        c.moveTo(x, y + 1); c.lineTo(x + 3.5, y + 4.5); c.lineTo(x, y + 8); c.lineTo(x - 3.5, y + 4.5);
        c.fill();
      }
    });
    c.fillStyle = colour("line-soft");
    c.fillRect(gutter(), y + ROLE_LANE - 0.5, plotWidth(), 1);
  });
}
function roleTip(event, t, y) {
  const node = meta.nodes[Math.floor(y / ROLE_LANE)];
  if (!node) return untip();
  const span = node.spans.find(([from, to]) => from <= t && t <= to);
  const near = 5 * ((view.end - view.start) / plotWidth());
  const said = meta.events.filter(([at, name]) => name === node.node && Math.abs(at - t) < near).slice(0, 4);
  if (!span && !said.length) return untip();
  const rows = span ? [["role", span[2] === "down" ? "no answer" : span[2]], ["term", span[3]], ["from", time(span[0])], ["to", time(span[1])], ["error", span[4]]] : [];
  for (const [at, , kind, text] of said) rows.push([kind, `${time(at)}: ${text}`]);
  tip(event, node.node, rows);
}

// The selected moment, a line through all plots.
function drawChosen() {
  const line = $("chosen"), t = selected.time;
  show(line, t !== null && t >= view.start && t <= view.end);
  if (line.hidden) return;
  const x = toX(t);
  line.style.transform = `translateX(${x.toFixed(1)}px)`;
  line.classList.toggle("flip", x > width() - 110);
  line.firstElementChild.textContent = time(t);
}
