// Operations on a canvas, in lanes. Few are drawn one by one; where there are many, the pyramid of
// worst outcomes is drawn instead.

const DIRECT = 3000; // operations drawn one by one, at most

function makeTimeline(ops) {
  const canvas = $("lanes"), TOP = 16, BOTTOM = 24, range = $("range").firstChild.appendChild(document.createTextNode(""));
  let by = "process", mask = null, grouping = null, sorted = null, levels = null;
  let hovered = -1, current = -1, version = 0; // of what is sorted
  const hits = new Map();
  meta.cases.forEach((one, number) => {
    for (const row of one.rows) hits.set(row, { number, assumed: false });
    for (const row of one.assumed) if (!hits.has(row)) hits.set(row, { number, assumed: true });
  });
  const groupings = new Map();
  function rebuild() { // another grouping, filter or axis
    if (!groupings.has(by)) groupings.set(by, GROUPINGS[by](ops));
    grouping = groupings.get(by);
    sorted = arrange(ops, grouping, mask);
    levels = null;
    version++;
    hovered = -1;
    canvas.setAttribute("aria-label", `Operations in lanes by ${by}: ${grouped(sorted.order.length)} operations`);
    $("lanes-unit").textContent = { process: "a lane for each client", node: "a lane for each node", key: "a row for each live key" }[by]
      + (grouping.more > 0 ? `; ${grouped(grouping.more)} more do not fit: zoom in, or filter with key:` : "");
    redraw();
  }

  // A little air between groups, and room for the names of the keys that follow one another.
  const tops = [];
  let tall = 3;
  function layout() {
    const { count, groups } = grouping, most = by === "node" ? 34 : 22;
    tall = clamp(Math.floor((narrow() ? 320 : 460) / Math.max(count, 1)), 3, most);
    let y = TOP;
    tops.length = 0;
    groups.forEach((group, n) => {
      if (n || group.marks) y += group.marks ? 14 : tall >= 6 ? 7 : 2;
      for (let k = group.from; k <= group.to; k++, y += tall) tops.push(y);
    });
    return y;
  }

  const scratch = document.createElement("canvas");
  let image = null, pixels = null, middle = null, edges = null, first = null, last = null, rasterOf = "";
  // The picture of the view, a pixel wide for each column: made anew only for another view, and of rows that are copied.
  function raster(level, w, rows) {
    const lanes = sorted.lanes, tones = [0, rgba("ok"), rgba("fail"), rgba("info")];
    const now = [view.from, view.to, w, rows, lanes, version, ...tones].join();
    if (now === rasterOf) return;
    rasterOf = now;
    if (!image || image.width !== w || image.height !== lanes * rows) {
      scratch.width = w;
      scratch.height = lanes * rows;
      image = scratch.getContext("2d").createImageData(w, lanes * rows);
      pixels = new Uint32Array(image.data.buffer);
      [middle, edges] = [new Uint32Array(w), new Uint32Array(w)];
      [first, last] = [new Int32Array(w), new Int32Array(w)];
    }
    const { size, cells } = level, scale = size / (whole.to - whole.from), per = (view.to - view.from) / w;
    for (let x = 0; x < w; x++) {
      first[x] = clamp(Math.floor((view.from + x * per) * scale), 0, size - 1);
      last[x] = clamp(Math.floor((view.from + (x + 1) * per) * scale - 1e-9), first[x], size - 1);
    }
    // Shape before colour: ok fills the middle, fail the edges, info all; of six rows two are left free.
    const inner = [0, tones[OK], 0, tones[INFO]], outer = [0, 0, tones[FAIL], tones[INFO]];
    for (let k = 0; k < lanes; k++) {
      const base = k * size;
      for (let x = 0, from = -1, past = -1, inside = 0, outside = 0; x < w; x++) {
        if (first[x] !== from || last[x] !== past) { // where a cell is wider than a pixel they repeat
          let worst = 0;
          from = first[x];
          past = last[x];
          for (let at = base + from; at <= base + past; at++) if (cells[at] > worst) worst = cells[at];
          inside = inner[worst];
          outside = outer[worst];
        }
        middle[x] = inside;
        edges[x] = outside;
      }
      const p = k * rows * w;
      if (rows === 6) {
        pixels.set(edges, p + w);
        pixels.set(middle, p + 2 * w);
        pixels.set(middle, p + 3 * w);
        pixels.set(edges, p + 4 * w);
      } else {
        pixels.set(edges, p);
        pixels.set(middle, p + w);
        pixels.set(edges, p + 2 * w);
      }
    }
    scratch.getContext("2d").putImageData(image, 0, 0);
  }
  function drawPyramid(c) {
    if (!levels) levels = pyramid(ops, sorted);
    const w = Math.round(plotWidth()), rows = tall >= 6 ? 6 : 3, per = (view.to - view.from) / w;
    raster(levels.findLast((l) => (whole.to - whole.from) / l.size <= per) || levels[0], w, rows);
    c.imageSmoothingEnabled = false;
    for (const group of grouping.groups) { // the lanes of a group adjoin
      const n = group.to - group.from + 1;
      c.drawImage(scratch, 0, group.from * rows, w, n * rows, gutter(), tops[group.from], plotWidth(), n * tall);
    }
  }

  function drawDirect(c, ranges) {
    useFont(c, `12px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace`);
    c.textBaseline = "middle";
    const { order, starts, ends, reach } = sorted, right = width() + 4, labels = []; // three numbers each
    for (let k = 0; k < sorted.lanes; k++) {
      const y = tops[k] + (tall >= 8 ? 2 : 0.5), high = tall - (tall >= 8 ? 4 : 1), [low, past] = ranges[k];
      for (const outcome of [OK, FAIL, INFO]) { // what went wrong lies on top where operations overlap
        c.fillStyle = c.strokeStyle = colour(OUTCOMES[outcome]);
        // As long as no operation lies on another a lane's are one path: a third cheaper than a shape for each.
        const together = outcome === OK && by !== "node";
        let inPath = false;
        if (together) c.beginPath();
        for (let j = low; j < past; j++) {
          const i = order[j];
          if (ops.outcome[i] !== outcome) continue;
          const left = Math.max(uToX(starts[j]), gutter() - 4), w = Math.max(Math.min(uToX(ends[j]), right) - left, 1.5);
          if (left + w < gutter()) continue;
          if (together && w >= SLIM) {
            if (inPath && starts[j] < reach[j - 1]) {
              fillOk(c);
              c.beginPath();
            }
            c.rect(left + 0.5, y + high * 0.1 + 0.5, w - 1, high * 0.8 - 1);
            inPath = true;
          } else bar(c, left, y, w, high, outcome, ops.took[i] !== INVOKE_ONLY);
          if (w > 44 && high >= 11 && by !== "node") labels.push(i, left, w); // a node’s operations overlap
        }
        if (inPath) fillOk(c);
        if (!labels.length) continue;
        c.fillStyle = colour("ink");
        for (let n = 0; n < labels.length; n += 3) {
          const text = fit(c, describe(ops, labels[n]), labels[n + 2] - 10);
          if (text) c.fillText(text, Math.max(labels[n + 1], gutter()) + 5, y + high / 2 + 0.5);
        }
        labels.length = 0;
      }
    }
  }

  function drawNames(c) {
    useFont(c, font(12.5, 550));
    c.fillStyle = colour("soft");
    for (const group of grouping.groups) {
      const high = tops[group.to] + tall - tops[group.from];
      if (group.label && high >= 11) c.fillText(fit(c, group.label, gutter() - 10), 2, (tops[group.from] + tops[group.to] + tall) / 2);
    }
  }
  function drawKeys(c) { // where a key's row begins, its name above it, as far as there is room
    useFont(c, font(11));
    for (const { from, to, marks, times } of grouping.groups) {
      if (!marks) continue;
      let free = gutter();
      let n = lowerBound(times, view.start);
      const past = lowerBound(times, view.end);
      if (past - n > plotWidth() / 20) continue; // no room for names
      for (n = Math.max(n - 1, 0); n < past; n++) {
        const [begins, text, ends] = marks[n], x = Math.max(toX(begins), gutter());
        if (ends < view.start) continue;
        c.fillStyle = colour("line");
        c.fillRect(x, tops[from] - 11, 1, tops[to] + tall - tops[from] + 11);
        const next = n + 1 < marks.length ? toX(marks[n + 1][0]) : width(), shown = fit(c, text, Math.min(next, width()) - x - 6);
        if (x < free || !shown) continue;
        c.fillStyle = colour("soft");
        c.fillText(shown, x + 4, tops[from] - 6);
        free = x + 8 + widthOf(c, shown);
      }
    }
  }

  const ranges = [];
  function draw() {
    const bottom = layout(), height = bottom + BOTTOM, c = surface(canvas, height);
    const { lanes, first, starts, reach } = sorted;
    c.textBaseline = "middle";
    drawNames(c);
    let seen = 0;
    ranges.length = 0;
    for (let k = 0; k < lanes; k++) {
      const low = lowerBound(reach, view.from, first[k], first[k + 1]), past = lowerBound(starts, view.to, low, first[k + 1]);
      ranges.push([low, past]);
      seen += past - low;
    }
    clipped(c, height, () => {
      faultBands(c, TOP - 4, bottom - TOP + 8);
      if (tall >= 6) {
        c.fillStyle = colour("line-soft");
        for (let k = 0; k < lanes; k++) c.fillRect(gutter(), Math.round(tops[k] + tall / 2), plotWidth(), 1);
      }
      if (seen > DIRECT) drawPyramid(c);
      else drawDirect(c, ranges);
      drawKeys(c);
      for (const [i, hit] of hits) ring(c, i, hit.assumed ? [3, 2] : [], "hit", hit.number === current ? 2.5 : 1.5);
      if (hovered >= 0) ring(c, hovered, [], "ink", 1.5);
      if (selected.op >= 0) ring(c, selected.op, [], "chosen", 2.5);
      meta.cases.forEach((one, number) => flag(c, one, number, bottom));
    });
    ruler(c, bottom);
    canvas.dataset.drawn = seen > DIRECT ? "pyramid" : "direct";
    canvas.dataset.seen = seen;
    const said = `${time(view.start)} to ${time(view.end)}, ${grouped(seen)} operations`;
    if (range.data !== said) range.data = said;
  }
  function ring(c, i, dash, tone, thick) {
    const k = sorted.lane[i];
    if (k >= sorted.lanes) return;
    const a = toX(ops.start[i]), b = ops.took[i] === INVOKE_ONLY ? a + 8 : toX(endOf(ops, i));
    if (b < gutter() - 9 || a > width()) return;
    c.strokeStyle = colour(tone);
    c.lineWidth = thick;
    c.setLineDash(dash);
    c.strokeRect(a - 2, tops[k] + (tall >= 8 ? 0.5 : -1), Math.max(b - a, 2) + 4, tall >= 8 ? tall - 1 : tall + 2);
    c.setLineDash([]);
  }
  function flag(c, one, number, bottom) {
    if (one.from === null) return;
    const a = toX(one.from), b = toX(one.to), x = clamp((a + b) / 2, gutter() + 6, width() - RIGHT - 6);
    if (b < gutter() || a > width()) return;
    c.fillStyle = alpha("hit", number === current ? 0.12 : 0.06);
    c.fillRect(a, TOP - 4, Math.max(b - a, 1), bottom - TOP + 8);
    c.fillStyle = colour("hit");
    c.beginPath();
    c.moveTo(x - 6, 1); c.lineTo(x + 6, 1); c.lineTo(x, 11);
    c.fill();
  }
  function ruler(c, bottom) {
    const { out, places } = ticks(view.from, view.to, plotWidth() / 95);
    useFont(c, font(12));
    c.textAlign = "center";
    for (const u of out) {
      const x = uToX(u), text = axis.order ? unwarp(u).toFixed(3) + " s" : u.toFixed(Math.min(places, 6)) + " s";
      c.fillStyle = colour("line");
      c.fillRect(x, bottom + 3, 1, 5);
      c.fillStyle = colour("faint");
      const half = widthOf(c, text) / 2;
      c.fillText(text, clamp(x, gutter() + half - 8, width() - half), bottom + 16);
    }
    c.textAlign = "left";
  }

  // --- pointing ---
  function at(x, y) {
    const k = tops.findIndex((top) => y >= top && y < top + tall);
    if (k < 0) return -1;
    const { first, order, starts, ends, reach } = sorted, u = toU(x), near = 5 * ((view.to - view.from) / plotWidth());
    let best = -1, distance = near;
    const past = lowerBound(starts, u + near, first[k], first[k + 1]);
    for (let n = Math.max(lowerBound(reach, u - near, first[k], past), past - 400); n < past; n++) {
      const off = u < starts[n] ? starts[n] - u : u > ends[n] ? u - ends[n] : 0;
      if (off < distance || (off === 0 && distance === 0)) [best, distance] = [n, off];
    }
    return best < 0 ? -1 : order[best];
  }
  function facts(i) {
    const took = ops.took[i], start = ops.start[i], hit = hits.get(i), end = endOf(ops, i);
    const force = faults.filter((f) => f.from <= end && f.until >= start);
    ops.want(i);
    return [
      ["value", ops.missing(i)],
      ["key", ops.names.keys[ops.key[i]]],
      ["outcome", took === INVOKE_ONLY ? "info: no completion was recorded" : OUTCOMES[ops.outcome[i]]],
      ["error", ops.names.errors[ops.error[i]]],
      ["invoked", start.toFixed(6) + " s"],
      ["completed", took === INVOKE_ONLY ? "never" : `${end.toFixed(6)} s, after ${length(took / 1e6)}`],
      ["clock", clock(start)],
      ["node", ops.names.lanes[ops.lane[i]]],
      ["process", ops.processOf(i)],
      ["index", ops.index[i]],
      ["under", force.map((f) => f.label).join(", ")],
      ["violation", hit ? meta.cases[hit.number].title + (hit.assumed ? " (assumed)" : "") : ""],
    ];
  }
  let pointed = null; // where, while the tip tells of an operation
  function hover(event, x, y) {
    const i = at(x, y);
    if (i !== hovered) {
      hovered = i;
      redraw();
    }
    pointed = i < 0 ? null : { clientX: event.clientX, clientY: event.clientY };
    if (i < 0) return untip();
    tip(event, describe(ops, i), facts(i));
  }
  function leave() {
    if (hovered < 0) return;
    hovered = -1;
    pointed = null;
    redraw();
  }

  // --- selection ---
  function pickOp(i) { // the operation's box beneath the plots, for keyboards, touch and readers
    const t = ops.start[i];
    reveal(t);
    select(t, i);
  }
  function tellPicked() {
    const i = selected.op, box = $("picked");
    box.hidden = i < 0;
    if (i < 0) return;
    rowsInto(box.querySelector("dl"), facts(i), "dt", "dd");
    box.querySelector("h3").textContent = describe(ops, i);
  }
  document.addEventListener("splitbrain:time", tellPicked);
  document.addEventListener("splitbrain:values", () => { // what was asked for is here, or cannot be had
    if (pointed && hovered >= 0) tip(pointed, describe(ops, hovered), facts(hovered));
    tellPicked();
    redraw();
  });
  // The next operation along the lane (dx), or the one nearest in time in a lane above or below (dy).
  function walk(dx, dy) {
    const { lanes, lane, first, order, starts } = sorted;
    let i = selected.op;
    if (i < 0 || lane[i] >= lanes || (mask && !mask[i])) {
      const j = order.findIndex((o) => ops.start[o] >= Math.max(view.start, selected.time === null ? 0 : selected.time));
      return j >= 0 && pickOp(order[j]);
    }
    let k = lane[i];
    if (dy) {
      do k += dy; while (k >= 0 && k < lanes && first[k] === first[k + 1]);
      if (k < 0 || k >= lanes) return;
    }
    const at = warp(ops.start[i]);
    let j = lowerBound(starts, at, first[k], first[k + 1]);
    if (dx) {
      while (order[j] !== i && j < first[k + 1]) j++;
      j += dx;
    } else if (j > first[k] && (j === first[k + 1] || at - starts[j - 1] < starts[j] - at)) j--;
    if (j >= first[k] && j < first[k + 1]) pickOp(order[j]);
  }

  // --- violations ---
  const found = meta.cases.map((c, number) => number).filter((n) => meta.cases[n].from !== null);
  found.sort((a, b) => meta.cases[a].from - meta.cases[b].from);
  function go(number) {
    const one = meta.cases[number];
    if (!one || one.from === null) return;
    current = number;
    const a = warp(one.from), b = warp(one.to), span = Math.max(b - a, axis.order ? 4 : 1e-4);
    look(a - span * 0.35, b + span * 0.35);
    const op = one.rows.length ? one.rows[one.rows.length - 1] : -1;
    select(op >= 0 ? ops.start[op] : one.from, op);
    root.setAttribute("data-case", String(number));
    $("said").textContent = `Violation ${found.indexOf(number) + 1} of ${found.length}: ${one.title}, at ${one.from.toFixed(3)} s`;
  }
  function step(way) {
    if (!found.length) return;
    const now = found.indexOf(current);
    go(found[now < 0 ? (way > 0 ? 0 : found.length - 1) : (now + way + found.length) % found.length]);
  }

  rebuild();
  eachFrame(draw);
  return {
    hover, leave, go, step, walk, at, pick: pickOp, hit: (i) => hits.has(i), any: found.length > 0, canvas,
    get by() { return by; },
    group(name) {
      if (!GROUPINGS[name] || name === by) return;
      by = name;
      rebuild();
      changed();
    },
    only(next) {
      mask = next;
      rebuild();
    },
    rebuild,
  };
}

const SLIM = 4; // pixels; below, a bar has no outline
function fillOk(c) { // the path of several, as `bar` draws one
  c.globalAlpha = 0.32;
  c.fill();
  c.globalAlpha = 1;
  c.lineWidth = 1;
  c.stroke();
}
// An operation's bar: solid for ok, hollow for fail, full height and notched for info; one without
// completion stays open on its right.
function bar(c, x, y, w, h, outcome, completed) {
  if (outcome === OK) {
    if (w < SLIM) return c.fillRect(x, y + h * 0.2, w, h * 0.6);
    c.globalAlpha = 0.32;
    c.fillRect(x, y + h * 0.1, w, h * 0.8);
    c.globalAlpha = 1;
    c.lineWidth = 1;
    c.strokeRect(x + 0.5, y + h * 0.1 + 0.5, w - 1, h * 0.8 - 1);
  } else if (outcome === FAIL) {
    if (w < SLIM) {
      c.fillRect(x, y, w, h * 0.28);
      c.fillRect(x, y + h * 0.72, w, h * 0.28);
      return;
    }
    c.lineWidth = 1.2;
    c.strokeRect(x + 0.5, y + h * 0.1 + 0.5, w - 1, h * 0.8 - 1);
  } else {
    if (w < SLIM) return c.fillRect(x, y, w, h);
    c.globalAlpha = 0.28;
    c.fillRect(x, y, w, h);
    c.globalAlpha = 1;
    c.lineWidth = 1.4;
    c.beginPath();
    c.moveTo(x + w, y + 0.5);
    c.lineTo(x + 0.5, y + 0.5);
    c.lineTo(x + 0.5, y + h - 0.5);
    c.lineTo(x + w, y + h - 0.5);
    if (completed) { // a notch: its end says nothing about when it took effect, if at all
      c.lineTo(x + w - Math.min(4, w / 2), y + h / 2);
      c.closePath();
    }
    c.stroke();
  }
}
function rgba(name) {
  const hex = colour(name), part = (n) => parseInt(hex.slice(n, n + 2), 16);
  return ((255 << 24) | (part(5) << 16) | (part(3) << 8) | part(1)) >>> 0;
}
