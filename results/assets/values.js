// What operations asked and answered: in the page, or in a file beside it of which the server that the page came from hands out
// a part at a time. That is asked for when somebody looks at an operation, and a few parts are kept.

const PARTS_KEPT = 24; // of at most 2 MB each

// Lengths of what n operations asked, of what they were answered, then the texts.
function valuesIn(bytes, n) {
  const lengths = bytes.subarray(0, 2 * n), text = bytes.subarray(2 * n), ends = new Uint32Array(2 * n), utf8 = new TextDecoder();
  for (let i = 0, sum = 0; i < 2 * n; i++) ends[i] = sum += lengths[i];
  if (n && ends[2 * n - 1] !== text.length) throw new Error("damaged");
  const part = (i) => visible(utf8.decode(text.subarray(ends[i] - lengths[i], ends[i])));
  return { asked: part, answered: (i) => part(n + i) };
}

// Gives the operations `asked(i)` and `answered(i)`, text that is empty as long as it is not here; `known(i)`, whether it is;
// `want(i)`, to have it brought, which the event `splitbrain:values` tells; and `missing(i)`, why it is not here, in words.
function giveValues(ops, given, bytes) {
  ops.inside = Boolean(bytes);
  if (bytes) {
    Object.assign(ops, valuesIn(bytes, ops.n), { known: () => true, want: () => {}, missing: () => "" });
    return;
  }
  const { chunk, at, mark, name } = given.beside || { chunk: 1 }, kept = new Map(given.kept.rows.map((row, n) => [row, n]));
  const parts = new Map(), failed = new Map(); // the part that was looked at last stands last
  const part = (i) => {
    const number = Math.floor(i / chunk), found = parts.get(number);
    return found && found.texts ? found.texts : null;
  };
  const text = (what) => (i) => {
    if (kept.has(i)) return given.kept[what][kept.get(i)];
    const texts = part(i);
    return texts ? texts[what](i % chunk) : "";
  };
  const served = () => given.beside && /^https?:$/.test(location.protocol) && $("served"); // the server's word, behind the page

  async function bring(number, signal) {
    const size = Math.min(chunk, ops.n - number * chunk), from = JSON.parse($("served").textContent).values;
    let answer;
    try {
      answer = await fetch(`${from}&from=${at[number]}&to=${at[number + 1]}`, { cache: "no-store", signal });
    } catch (error) {
      throw new Error("the server does not answer", { cause: error });
    }
    if (answer.status === 403) throw new Error("the server was started again: load this page again");
    if (answer.status === 404) throw new Error(`${name} is not beside this page any more`);
    if (!answer.ok) throw new Error(`the server says ${answer.status}`);
    let bytes;
    try {
      bytes = await gunzip(await answer.arrayBuffer());
    } catch (error) {
      throw new Error(`${name} is damaged, or another report's`, { cause: error });
    }
    const found = [...bytes.subarray(0, 8)].map((b) => b.toString(16).padStart(2, "0")).join("");
    if (found !== mark) throw new Error(`${name} is another report's`);
    return valuesIn(bytes.subarray(8), size);
  }

  ops.asked = text("asked");
  ops.answered = text("answered");
  ops.known = (i) => kept.has(i) || part(i) !== null;
  ops.want = (i) => {
    const number = Math.floor(i / chunk);
    if (kept.has(i) || !served() || failed.has(number)) return;
    const here = parts.get(number);
    if (here) {
      parts.delete(number);
      parts.set(number, here);
      return;
    }
    const coming = { texts: null, stop: new AbortController() };
    parts.set(number, coming);
    if (parts.size > PARTS_KEPT) {
      const [first, { stop }] = parts.entries().next().value;
      parts.delete(first);
      stop.abort();
    }
    bring(number, coming.stop.signal).then((texts) => (coming.texts = texts), (error) => {
      if (coming.stop.signal.aborted) return;
      parts.delete(number);
      failed.set(number, error.message);
    }).then(() => document.dispatchEvent(new Event("splitbrain:values")));
  };
  ops.missing = (i) => {
    if (ops.known(i)) return "";
    if (!given.beside) return "not in this page; history.jsonl has it";
    if (!served()) return `not in this page: splitbrain open ${meta.run}`;
    const why = failed.get(Math.floor(i / chunk));
    return why ? `cannot be shown: ${why}` : "on its way …";
  };
}
