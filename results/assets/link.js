// The address as a permalink: what is looked at, the filter and the selection stand behind its #, as
// `#view=17.2..18.9&by=key&find=f%3Acas&op=4711`. An anchor such as `#logs` has no `=` and stays one.

function makeLink(ops, timeline, table) {
  const rowByIndex = (index) => { // a history's indexes grow along it; a journal's need not
    const n = lowerBound(ops.index, index);
    return ops.index[n] === index ? n : ops.index.indexOf(index);
  };
  const figures = (s) => s.toFixed(6).replace(/\.?0+$/, "");
  function text() {
    const out = new URLSearchParams();
    if (!isWhole()) out.set("view", `${figures(view.start)}..${figures(view.end)}`);
    if (axis.order) out.set("axis", "order");
    if (timeline.by !== "process") out.set("by", timeline.by);
    if (table.text) out.set("find", table.text);
    if (selected.op >= 0) out.set("op", ops.index[selected.op]);
    else if (selected.time !== null) out.set("t", figures(selected.time));
    return out.toString();
  }
  function follow() { // whether the address said anything
    const hash = location.hash.slice(1);
    if (!hash.includes("=")) return false;
    const said = new URLSearchParams(hash), order = said.get("axis") === "order";
    setOrder(ops, timeline, order);
    timeline.group(GROUPINGS[said.get("by")] ? said.get("by") : "process");
    table.find(said.get("find") || "");
    const range = /^([\d.]+)\.\.([\d.]+)$/.exec(said.get("view") || "");
    if (range && Number(range[1]) < Number(range[2])) lookAt(Number(range[1]), Number(range[2]));
    else look(whole.from, whole.to);
    const op = said.has("op") ? rowByIndex(Number(said.get("op"))) : -1, t = Number(said.get("t") || NaN);
    if (op >= 0) select(ops.start[op], op);
    else select(Number.isFinite(t) ? clamp(t, 0, END) : null);
    showChoices(timeline);
    return true;
  }
  let waiting = 0, written = "";
  function write() {
    clearTimeout(waiting);
    waiting = 0;
    const now = text();
    if (now === written) return;
    written = now;
    // Replaced, not pushed: the way back leads out of the report, not through every turn of the wheel.
    history.replaceState(null, "", location.href.replace(/#.*$/, "") + (now ? "#" + now : ""));
  }
  if (follow()) {
    written = text();
    $("time").scrollIntoView({ block: "start", behavior: "instant" });
  }
  watchers.push(() => { // once the view has come to rest
    clearTimeout(waiting);
    waiting = setTimeout(write, 250);
  });
  window.addEventListener("hashchange", () => {
    if (follow()) written = text();
  });
  return () => {
    write();
    return location.href.replace(/#.*$/, "") + (written ? "#" + written : "");
  };
}
