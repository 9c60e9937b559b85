// A filter such as `f:cas type:info key:17 node:n3 t:10s..12s`: every name must match, several of one
// name mean any of them, a minus in front means none. Returned as a mask over the operations.

const FILTER_NAMES = ["f", "type", "key", "node", "process", "error", "value", "t"];

// Words at spaces; "…" keeps spaces: key:"a b".
function filterTerms(text) {
  const terms = [];
  for (const match of text.matchAll(/(-?)([a-z]+):(?:"([^"]*)"|(\S*))|(\S+)/g)) {
    const [word, minus, name, quoted, bare] = match;
    if (name === undefined) throw new Error(`“${word}” has no name; write one of ${FILTER_NAMES.map((n) => n + ":").join(" ")} before it`);
    if (!FILTER_NAMES.includes(name)) throw new Error(`there is no “${name}:”; there are ${FILTER_NAMES.map((n) => n + ":").join(" ")}`);
    const values = quoted !== undefined ? [quoted] : bare.split(",").filter(Boolean);
    if (!values.length) throw new Error(`“${word}” says nothing after its colon`);
    terms.push({ name, not: minus === "-", values });
  }
  return terms;
}

const UNITS = { s: 1, ms: 1e-3, us: 1e-6, "µs": 1e-6, m: 60, min: 60, "": 1 };
function filterTime(text, otherwise) {
  if (text === "") return otherwise;
  const match = /^(\d+(?:\.\d*)?|\.\d+)(s|ms|us|µs|min|m|)$/.exec(text);
  if (!match) throw new Error(`“${text}” is no time; write it as 10s, 250ms or 1.5m`);
  return Number(match[1]) * UNITS[match[2]];
}
function filterRange(text) {
  const at = text.indexOf("..");
  if (at < 0) throw new Error(`“t:${text}” is no stretch of time; write t:10s..12s, t:10s.. or t:..12s`);
  const low = filterTime(text.slice(0, at), 0), high = filterTime(text.slice(at + 2), Infinity);
  if (low > high) throw new Error(`“t:${text}” ends before it begins`);
  return [low, high];
}

function codesOf(names, values, whole = true) {
  const codes = new Uint8Array(names.length);
  names.forEach((name, code) => {
    if (values.some((v) => (whole ? name === v : name.toLowerCase().includes(v.toLowerCase())))) codes[code] = 1;
  });
  return codes;
}

function filterTest(ops, name, values) {
  const names = ops.names;
  if (name === "f") return ((codes) => (i) => codes[ops.f[i]])(codesOf(names.f, values));
  if (name === "key") return ((codes) => (i) => codes[ops.key[i]])(codesOf(names.keys, values));
  if (name === "node") return ((codes) => (i) => codes[ops.lane[i]])(codesOf(names.lanes, values));
  if (name === "error") return ((codes) => (i) => ops.error[i] && codes[ops.error[i]])(codesOf(names.errors, values, false));
  if (name === "process") return (i) => values.includes(ops.processOf(i));
  if (name === "type") {
    const unknown = values.find((v) => !OUTCOMES.includes(v) && v !== "open");
    if (unknown) throw new Error(`“type:${unknown}” is no outcome; there are ok, fail, info and open (never completed)`);
    const codes = codesOf(OUTCOMES, values), open = values.includes("open");
    return (i) => codes[ops.outcome[i]] || (open && ops.took[i] === INVOKE_ONLY);
  }
  if (name === "value") {
    if (!ops.inside) throw new Error("the values of this run are not in the page, so they cannot be searched here; history.jsonl has them");
    const wanted = values.map((v) => v.toLowerCase());
    return (i) => ((text) => wanted.some((v) => text.includes(v)))((ops.asked(i) + " " + ops.answered(i)).toLowerCase());
  }
  const ranges = values.map(filterRange);
  return (i) => ranges.some(([low, high]) => ops.start[i] <= high && endOf(ops, i) >= low);
}

// The mask and how many match; null for an empty filter. Raises an Error that says what is wrong.
function filterMask(ops, text) {
  const terms = filterTerms(text);
  if (!terms.length) return null;
  const named = new Map(), tests = [];
  for (const { name, not, values } of terms) {
    if (not) tests.push(((test) => (i) => !test(i))(filterTest(ops, name, values)));
    else named.set(name, [...(named.get(name) || []), ...values]);
  }
  // The dear ones last: they see only what the others let through.
  const dear = (name) => (name === "value" ? 2 : name === "process" ? 1 : 0);
  for (const [name, values] of [...named].sort((a, b) => dear(a[0]) - dear(b[0]))) tests.push(filterTest(ops, name, values));
  const mask = new Uint8Array(ops.n);
  let count = 0;
  for (let i = 0; i < ops.n; i++) if (tests.every((test) => test(i))) count += mask[i] = 1;
  return { mask, count };
}
