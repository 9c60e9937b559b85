// Joins the parts: one pointer, one keyboard, one view for all plots.

// A page from file:// is no secure context in every browser: then what is selected is copied.
function copyText(text, done) {
  const fallback = () => {
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "unseen";
    document.body.append(area);
    area.select();
    if (document.execCommand("copy")) done();
    area.remove();
  };
  if (navigator.clipboard) navigator.clipboard.writeText(text).then(done, fallback);
  else fallback();
}
function copying() {
  for (const button of document.querySelectorAll("[data-copy]")) {
    button.addEventListener("click", () => {
      const source = $(button.dataset.copy), range = document.createRange();
      range.selectNodeContents(source);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      copyText(source.textContent, () => (button.textContent = "Copied"));
    });
  }
}

function pointing(timeline) {
  const plots = $("plots"), cross = $("crosshair");
  const xOf = (event) => event.clientX - plots.getBoundingClientRect().left;
  let dragged = null;
  plots.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || xOf(event) < gutter()) return;
    dragged = { x: event.clientX, from: view.from, to: view.to, far: false };
    plots.setPointerCapture(event.pointerId);
  });
  plots.addEventListener("pointercancel", () => (dragged = null));
  plots.addEventListener("pointerup", (event) => { // a press without a drag selects what is there
    const press = dragged && !dragged.far;
    dragged = null;
    if (!press) return;
    const x = xOf(event), box = timeline ? timeline.canvas.getBoundingClientRect() : null;
    const i = box && event.clientY >= box.top && event.clientY < box.bottom ? timeline.at(x, event.clientY - box.top) : -1;
    if (i >= 0) timeline.pick(i);
    else if (x <= width() - RIGHT) select(toT(x));
  });
  plots.addEventListener("pointermove", (event) => {
    const x = xOf(event);
    if (dragged) {
      dragged.far ||= Math.abs(event.clientX - dragged.x) > 3;
      const by = ((dragged.x - event.clientX) / plotWidth()) * (dragged.to - dragged.from);
      if (dragged.far) { // a hand that moves the plots points at nothing
        show(cross, false);
        untip();
        if (timeline) timeline.leave();
        look(dragged.from + by, dragged.to + by);
      }
      return; // nor does one that has only pressed
    }
    const inside = x >= gutter() && x <= width() - RIGHT;
    show(cross, inside);
    readOut(inside ? toT(x) : null);
    if (!inside) {
      if (timeline) timeline.leave();
      return untip();
    }
    cross.style.transform = `translateX(${x}px)`;
    cross.classList.toggle("flip", x > width() - 110);
    cross.firstElementChild.textContent = time(toT(x));
    const under = document.elementFromPoint(event.clientX, event.clientY);
    const y = under ? event.clientY - under.getBoundingClientRect().top : 0;
    if (timeline && under === timeline.canvas) return timeline.hover(event, x, y);
    if (timeline) timeline.leave();
    if (under === $("roles")) return roleTip(event, toT(x), y);
    const f = under === $("ribbon") ? faultAt(toT(x), y) : null;
    if (!f) return untip();
    tip(event, `${f.label} ${f.id}`, [
      ["from", time(f.from)], ["clock", clock(f.from)], ["to", f.to === null ? "not undone" : time(f.to)], ["what", f.says],
      ["effect", f.effective ? "measured" : "none shown"],
    ]);
  });
  plots.addEventListener("pointerleave", () => {
    show(cross, false);
    readOut(null);
    if (timeline) timeline.leave();
    untip();
  });
  plots.addEventListener("dblclick", () => look(whole.from, whole.to));
  const wheel = (event) => {
    const out = event.deltaY > 0;
    if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      event.preventDefault();
      const by = (event.deltaX / plotWidth()) * (view.to - view.from);
      return look(view.from + by, view.to + by);
    }
    if (out && isWhole()) return; // nothing left to zoom out of: the page scrolls on
    event.preventDefault();
    zoom(Math.exp(clamp(event.deltaY, -120, 120) * 0.0022), toU(xOf(event)));
  };
  for (const id of ["lanes", "minimap"]) $(id).addEventListener("wheel", wheel, { passive: false });
}

function setOrder(ops, timeline, on) {
  if (axis.order === on) return;
  useOrder(ops, on);
  timeline.rebuild();
}
function showChoices(timeline) {
  for (const b of document.querySelectorAll("[data-by]")) b.setAttribute("aria-pressed", String(b.dataset.by === timeline.by));
  for (const b of document.querySelectorAll("[data-axis]")) b.setAttribute("aria-pressed", String((b.dataset.axis === "order") === axis.order));
}
function choosing(ops, timeline, table, address) {
  for (const b of document.querySelectorAll("[data-by], [data-axis]")) {
    b.addEventListener("click", () => {
      if (b.dataset.by) timeline.group(b.dataset.by);
      else setOrder(ops, timeline, b.dataset.axis === "order");
      showChoices(timeline);
    });
  }
  const copy = $("copy-link");
  copy.addEventListener("click", () => copyText(address(), () => {
    copy.textContent = "Copied";
    setTimeout(() => (copy.textContent = "Copy link"), 1500);
  }));
  $("picked-show").addEventListener("click", () => table.show(selected.op));
  $("picked-none").addEventListener("click", () => {
    select(null);
    $("plots").focus({ preventScroll: true });
  });
}

function commands(timeline, table) {
  const span = () => view.to - view.from, by = (part) => look(view.from + span() * part, view.to + span() * part);
  const todo = {
    in: () => zoom(0.5), out: () => zoom(2), all: () => look(whole.from, whole.to),
    left: () => by(-0.2), right: () => by(0.2),
    next: () => timeline && timeline.step(1), previous: () => timeline && timeline.step(-1),
    earlier: () => timeline && timeline.walk(-1, 0), later: () => timeline && timeline.walk(1, 0),
    above: () => timeline && timeline.walk(0, -1), below: () => timeline && timeline.walk(0, 1),
    show: () => table && selected.op >= 0 && table.show(selected.op),
    none: () => select(null),
    find: () => table && ($("operations").scrollIntoView({ block: "start" }), $("find").focus({ preventScroll: true })),
  };
  for (const button of document.querySelectorAll("[data-do]")) button.addEventListener("click", todo[button.dataset.do]);
  for (const button of document.querySelectorAll("[data-goto]")) {
    button.addEventListener("click", () => {
      if (timeline) timeline.go(Number(button.dataset.goto));
      $("fig-lanes").scrollIntoView({ block: "center" });
    });
  }
  const anywhere = { n: "next", p: "previous", "/": "find" };
  const focused = { "+": "in", "=": "in", "-": "out", 0: "all", ArrowLeft: "left", ArrowRight: "right", Enter: "show", Escape: "none" };
  const shifted = { ArrowLeft: "earlier", ArrowRight: "later", ArrowUp: "above", ArrowDown: "below" };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName)) return;
    const here = $("plots") === document.activeElement;
    const name = anywhere[event.key] || (here && ((event.shiftKey && shifted[event.key]) || focused[event.key]));
    if (!name) return;
    event.preventDefault();
    todo[name]();
  });
}

async function main() {
  copying();
  terms();
  anomalies();
  logs();
  if (!$("plots")) return;
  try {
    let ops = null, timeline = null, table = null;
    measure();
    eachFrame(drawRibbon, $("fig-ribbon"));
    eachFrame(drawChosen);
    if (meta.ops) {
      makeCharts();
    } else {
      for (const id of ["fig-rate", "fig-latency", "fig-lanes"]) $(id).hidden = true;
      document.querySelectorAll(".choice, #copy-link").forEach((e) => (e.hidden = true));
    }
    if (meta.nodes.length) {
      eachFrame(drawRoles, $("fig-roles"));
      legend("roles-legend", [["leader", "leader", "block"], ["follower", "follower", "block"], ["candidate", "candidate", "ticks"], ["no answer", "down", "dotted"]]);
    } else {
      $("fig-roles").hidden = true;
    }
    sayRibbon();
    makeMinimap();
    drawAll();
    performance.mark("splitbrain:first");
    if (meta.ops) { // what needs no operations is there to be looked at while they are unpacked
      await new Promise((painted) => requestAnimationFrame(() => setTimeout(painted)));
      ops = chartedOps = decode(await unpack());
      timeline = makeTimeline(ops);
      legend("lanes-legend", [["ok", "ok", "shape"], ["fail", "fail", "shape"], ["info", "info", "shape"]]);
      $("jumps").hidden = !timeline.any;
      table = makeTable(ops, timeline);
    }
    pointing(timeline);
    commands(timeline, table);
    if (ops) choosing(ops, timeline, table, makeLink(ops, timeline, table));
    new ResizeObserver(redraw).observe($("plots"));
    drawAll();
    performance.mark("splitbrain:drawn");
  } catch (error) {
    $("plots").hidden = true;
    $("plots-failed").hidden = false;
    $("plots-failed").textContent = `The plots could not be drawn: ${error.message}.`;
    throw error;
  }
}
main().then(() => root.setAttribute("data-ready", "true"), (error) => fault(String((error && error.stack) || error)));
