// Which lane an operation stands in. A worker's lane holds one operation at a time; a node's holds all
// of its clients'; keys follow one another in a row as they come and go, since a run that retires its
// keys has thousands of them, but only a few at once.

const MOST_LANES = 1500, MOST_KEY_ROWS = 60, MOST_SLOTS = 5, NOWHERE = 65535;

function endOf(ops, i) {
  return ops.took[i] === INVOKE_ONLY ? ops.start[i] : ops.start[i] + ops.took[i] / 1e6;
}

// The first place in a row that is free at a time; where all are taken, the one that is free first.
function slotIn(row, t, end) {
  let slot = 0;
  while (slot < row.ends.length && row.ends[slot] > t) slot++;
  if (slot >= MOST_SLOTS) slot = row.ends.indexOf(Math.min(...row.ends));
  row.ends[slot] = end;
  row.most = Math.max(row.most, slot + 1);
  return slot;
}

// {lane: of each operation, count, groups: [{from, to, label, marks}], more: how many rows did not fit}
const GROUPINGS = {
  process(ops) {
    const nodes = ops.names.lanes, count = Math.min(nodes.length, MOST_LANES), groups = [];
    for (let k = 0; k < count; k++) {
      const last = groups[groups.length - 1];
      if (last && last.name === nodes[k]) last.to = k;
      else groups.push({ name: nodes[k], from: k, to: k, label: nodes[k] || "clients", marks: null });
    }
    return { lane: ops.lane, count, groups, more: nodes.length - count };
  },

  node(ops) {
    const names = [...new Set(ops.names.lanes)], row = ops.names.lanes.map((name) => names.indexOf(name));
    const lane = new Uint16Array(ops.n);
    for (let i = 0; i < ops.n; i++) lane[i] = row[ops.lane[i]];
    const groups = names.map((name, k) => ({ from: k, to: k, label: name || "clients", marks: null }));
    return { lane, count: names.length, groups, more: 0 };
  },

  key(ops) {
    const names = ops.names.keys, keys = ops.key.reduce((a, b) => Math.max(a, b), 0) + 1;
    // The final reads ask for every key at once: they share a row of their own.
    const final = (meta.phases.find(([name]) => name === "final") || [])[1] ?? Infinity;
    const over = new Float64Array(keys).fill(-1), rowOf = new Int32Array(keys).fill(-1);
    for (let i = 0; i < ops.n; i++) if (ops.start[i] < final) over[ops.key[i]] = Math.max(over[ops.key[i]], endOf(ops, i));
    const failing = new Set(meta.cases.flatMap((one) => one.rows.map((i) => ops.key[i])));
    const rows = [], rowAt = new Uint16Array(ops.n), slotAt = new Uint8Array(ops.n), outside = new Set();
    const last = { over: Infinity, ends: [], marks: [[final, "", END]], most: 1, label: "final", at: -1 };
    for (let i = 0; i < ops.n; i++) {
      const key = ops.key[i], t = ops.start[i];
      let row = t >= final ? last : rows[rowOf[key]];
      if (row === last) {
        if (row.at < 0) row.at = rows.push(row) - 1;
      } else if (!row) {
        row = rows.find((r) => r.over < t);
        if (!row && (rows.length < MOST_KEY_ROWS || failing.has(key))) {
          row = { ends: [], marks: [], most: 1, label: "", at: rows.length };
          rows.push(row);
        }
        if (!row) {
          rowAt[i] = NOWHERE;
          outside.add(key);
          continue;
        }
        row.over = over[key];
        row.marks.push([t, names[key] || "", over[key]]);
        rowOf[key] = row.at;
      }
      rowAt[i] = row.at;
      slotAt[i] = slotIn(row, t, endOf(ops, i));
    }
    const groups = [];
    let count = 0;
    for (const row of rows) {
      const one = row.marks.every(([, name]) => name === row.marks[0][1]);
      groups.push({ from: count, to: count + row.most - 1, label: row.label || (one ? row.marks[0][1] || "one object" : ""), marks: one ? null : row.marks, times: row.marks.map(([t]) => t) });
      count += row.most;
    }
    const lane = new Uint16Array(ops.n);
    for (let i = 0; i < ops.n; i++) lane[i] = rowAt[i] === NOWHERE ? NOWHERE : groups[rowAt[i]].from + slotAt[i];
    return { lane, count: Math.min(count, MOST_LANES), groups: groups.filter((g) => g.to < MOST_LANES), more: outside.size };
  },
};

// The operations sorted by lane, by time within it, with their places on the axis; `mask` leaves out
// what a filter does not want. `reach` is the furthest end so far: where operations overlap, it finds
// the first that can still be seen.
function arrange(ops, grouping, mask) {
  const lanes = grouping.count, lane = grouping.lane, first = new Uint32Array(lanes + 1);
  for (let i = 0; i < ops.n; i++) if (lane[i] < lanes && (!mask || mask[i])) first[lane[i] + 1]++;
  for (let k = 0; k < lanes; k++) first[k + 1] += first[k];
  const size = first[lanes], order = new Uint32Array(size), fill = first.slice();
  for (let i = 0; i < ops.n; i++) if (lane[i] < lanes && (!mask || mask[i])) order[fill[lane[i]]++] = i;
  const starts = new Float64Array(size), ends = new Float64Array(size), reach = new Float64Array(size);
  for (let k = 0; k < lanes; k++) {
    for (let j = first[k], far = -1; j < first[k + 1]; j++) {
      const i = order[j], t = ops.start[i], took = ops.took[i];
      // One that never completed reaches as far as its lane is free.
      const end = took !== INVOKE_ONLY ? t + took / 1e6 : j + 1 < first[k + 1] ? ops.start[order[j + 1]] : END;
      starts[j] = warp(t);
      ends[j] = warp(end);
      reach[j] = far = Math.max(far, ends[j]);
    }
  }
  return { lanes, lane, first, order, starts, ends, reach };
}

// Worst outcomes by lane and stretch of the axis, level by level: a frame costs the same however long
// the history is.
const CELLS = 4e6; // of the base
function pyramid(ops, sorted) {
  const { lanes, first, order, starts, ends } = sorted, levels = [];
  let base = 1024;
  while (base < 131072 && base * 2 * lanes <= CELLS) base *= 2;
  const cells = new Uint8Array(base * lanes), scale = base / (whole.to - whole.from);
  for (let k = 0; k < lanes; k++) {
    for (let j = first[k]; j < first[k + 1]; j++) {
      const a = clamp(Math.floor(starts[j] * scale), 0, base - 1), b = clamp(Math.floor(ends[j] * scale), a, base - 1);
      const what = ops.outcome[order[j]];
      for (let at = k * base + a; at <= k * base + b; at++) if (cells[at] < what) cells[at] = what;
    }
  }
  levels.push({ size: base, cells });
  for (let size = base / 2; size >= 256; size /= 2) {
    const below = levels[levels.length - 1].cells, here = new Uint8Array(size * lanes);
    for (let at = 0; at < here.length; at++) here[at] = Math.max(below[2 * at], below[2 * at + 1]);
    levels.push({ size, cells: here });
  }
  return levels;
}
