// The operations as a table of which only the rows in sight exist, with its filter. A browser cannot
// make an element tens of millions of pixels high, so the bar's way is scaled where rows are many.

const ROW = 28, TALLEST = 8e6;

function makeTable(ops, timeline) {
  const box = $("op-rows"), spacer = box.querySelector(".spacer"), body = box.querySelector(".rows");
  const input = $("find"), said = $("found");
  let rows = null, count = ops.n, text = ""; // rows: which operations; null: all of them
  const opAt = (n) => (rows ? rows[n] : n);
  const rowOf = (i) => {
    if (!rows) return i;
    const n = lowerBound(rows, i);
    return rows[n] === i ? n : -1;
  };
  const inSight = () => Math.max(Math.floor(box.clientHeight / ROW) - 1, 1) // one is the head;
  const most = () => Math.max(count - inSight(), 0);
  const way = () => Math.max(box.scrollHeight - box.clientHeight, 1);
  // Up to TALLEST pixels rows scroll as they are; beyond, the bar's place is a share of the rows.
  const scaled = () => count * ROW > TALLEST;
  const topRow = () => clamp(scaled() ? (box.scrollTop / way()) * most() : box.scrollTop / ROW, 0, most());
  function scrollTo(n) {
    const at = clamp(n, 0, most());
    box.scrollTop = scaled() ? (at / Math.max(most(), 1)) * way() : at * ROW;
    draw();
  }

  const cells = (row) => [...row.children];
  function makeRow() {
    const row = document.createElement("div");
    row.setAttribute("role", "row");
    for (const name of ["t", "took", "process", "node", "f", "key", "value", "type", "error"]) {
      const cell = document.createElement("span");
      cell.className = "c-" + name;
      cell.setAttribute("role", "gridcell");
      row.append(cell);
    }
    return row;
  }
  function fillRow(row, n) {
    const i = opAt(n), took = ops.took[i], outcome = OUTCOMES[ops.outcome[i]], asked = ops.asked(i), answered = ops.answered(i);
    const value = !ops.known(i) ? "…" : answered ? (asked ? `${asked} → ${answered}` : `→ ${answered}`) : asked;
    const texts = [
      ops.start[i].toFixed(6), took === INVOKE_ONLY ? "open" : length(took / 1e6), ops.processOf(i), ops.names.lanes[ops.lane[i]],
      ops.names.f[ops.f[i]], ops.names.keys[ops.key[i]] || "", value,
      outcome, ops.names.errors[ops.error[i]] || "",
    ];
    cells(row).forEach((cell, k) => {
      cell.textContent = texts[k];
      cell.title = k === 6 && !ops.known(i) ? ops.missing(i) : k > 4 && texts[k].length > 24 ? texts[k] : "";
    });
    row.id = "op-row-" + n;
    row.dataset.row = n;
    row.setAttribute("aria-rowindex", n + 2);
    row.setAttribute("aria-selected", String(i === selected.op));
    row.className = "o-" + outcome + (timeline.hit(i) ? " hit" : "");
  }
  let drawing = false, looked = false;
  function later() {
    if (drawing) return;
    drawing = true;
    requestAnimationFrame(() => {
      drawing = false;
      draw();
    });
  }
  function draw() {
    const top = topRow(), from = Math.floor(top), past = Math.min(from + inSight() + 2, count);
    while (body.children.length > past - from) body.lastChild.remove();
    while (body.children.length < past - from) body.append(makeRow());
    for (let n = from; n < past; n++) {
      if (looked) ops.want(opAt(n));
      fillRow(body.children[n - from], n);
    }
    body.style.transform = `translateY(${scaled() ? box.scrollTop - (top - from) * ROW : from * ROW}px)`;
    const at = selected.op < 0 ? -1 : rowOf(selected.op);
    if (at >= from && at < past) box.setAttribute("aria-activedescendant", "op-row-" + at);
    else box.removeAttribute("aria-activedescendant");
  }
  function resize() {
    spacer.style.height = Math.min(count * ROW, TALLEST) + "px";
    box.setAttribute("aria-rowcount", count + 1);
    $("op-none").hidden = count > 0;
    draw();
  }

  function find(next) { // whether the filter could be understood
    try {
      const found = filterMask(ops, next);
      text = next.trim();
      input.removeAttribute("aria-invalid");
      rows = found ? new Uint32Array(found.count) : null;
      if (found) for (let i = 0, n = 0; i < ops.n; i++) if (found.mask[i]) rows[n++] = i;
      count = found ? found.count : ops.n;
      said.textContent = found ? `${grouped(count)} of ${grouped(ops.n)} operations` : `${grouped(ops.n)} operations`;
      $("filtered").hidden = !found;
      $("filtered-text").textContent = found ? `${text}: ${grouped(count)} shown` : "";
      timeline.only(found && found.mask);
      box.scrollTop = 0;
      resize();
      changed();
      return true;
    } catch (error) {
      input.setAttribute("aria-invalid", "true");
      said.textContent = error.message[0].toUpperCase() + error.message.slice(1) + ".";
      return false;
    }
  }
  let typing = 0;
  input.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(() => find(input.value), ops.n > 200000 ? 350 : 120);
  });
  // At the key, not at the form's submission: a page that is served stands in a sandbox, in which no form is submitted.
  input.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.isComposing) return;
    event.preventDefault();
    clearTimeout(typing);
    if (find(input.value) && count) box.focus();
  });
  input.form.addEventListener("submit", (event) => event.preventDefault());
  function clear() {
    input.value = "";
    find("");
  }
  for (const button of document.querySelectorAll("[data-clear]")) button.addEventListener("click", clear);
  $("find-view").addEventListener("click", () => {
    const rest = input.value.replace(/(^|\s)-?t:\S*/g, "").trim();
    input.value = `${rest} t:${Math.max(view.start, 0).toFixed(6)}s..${view.end.toFixed(6)}s`.trim();
    find(input.value);
  });

  // Values that stand beside the page are asked for once the table is in sight.
  new IntersectionObserver((entries) => {
    looked = entries.some((e) => e.isIntersecting);
    if (looked) later();
  }).observe(box);
  document.addEventListener("splitbrain:values", later);
  box.addEventListener("scroll", later, { passive: true });
  box.addEventListener("click", (event) => {
    const row = event.target.closest("[data-row]");
    if (row) timeline.pick(opAt(Number(row.dataset.row)));
  });
  box.addEventListener("dblclick", () => $("plots").scrollIntoView({ block: "start" }));
  box.addEventListener("keydown", (event) => {
    const page = inSight() - 1, at = selected.op < 0 ? -1 : rowOf(selected.op);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + page, PageUp: at - page, Home: 0, End: count - 1 }[event.key];
    if (event.key === "Enter" && at >= 0) {
      $("plots").scrollIntoView({ block: "start" });
      $("plots").focus({ preventScroll: true });
    } else if (to !== undefined && count) {
      const fresh = at < 0 && !/Home|End/.test(event.key);
      timeline.pick(opAt(clamp(fresh ? Math.ceil(topRow()) : to, 0, count - 1)));
    } else return;
    event.preventDefault();
    event.stopPropagation(); // what was pressed here is not meant for the plots
  });
  document.addEventListener("splitbrain:time", (event) => { // an operation comes into sight; a moment brings those around it
    const { seconds, op } = event.detail;
    const after = lowerBound(ops.start, seconds), n = op >= 0 ? rowOf(op) : rows ? lowerBound(rows, after) : after;
    const top = topRow(), room = inSight();
    if (n >= 0 && count && (n < top || n > top + room - 1)) scrollTo(n - Math.floor(room / 2));
    else draw();
  });
  new ResizeObserver(later).observe(box);
  find("");
  return {
    find: (next) => { input.value = next; return find(next); },
    get text() { return text; },
    show(i) {
      if (rowOf(i) < 0) clear();
      scrollTo(rowOf(i) - Math.floor(inSight() / 2));
      $("operations").scrollIntoView({ block: "start" });
      box.focus({ preventScroll: true });
    },
  };
}
