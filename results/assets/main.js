// Joins the parts: one pointer, one keyboard, one view for all plots.

function copying() {
  for (const button of document.querySelectorAll("[data-copy]")) {
    button.addEventListener("click", () => {
      const source = $(button.dataset.copy), range = document.createRange();
      range.selectNodeContents(source);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      const done = () => (button.textContent = "Copied");
      // A page from file:// is no secure context in every browser: the selection is there to be copied by hand.
      if (navigator.clipboard) navigator.clipboard.writeText(source.textContent).then(done, () => document.execCommand("copy") && done());
      else if (document.execCommand("copy")) done();
    });
  }
}

function pointing(timeline) {
  const plots = $("plots"), cross = $("crosshair");
  const place = (event) => event.clientX - plots.getBoundingClientRect().left;
  let dragged = null;
  plots.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || place(event) < gutter()) return;
    dragged = { x: event.clientX, from: view.from, to: view.to };
    plots.setPointerCapture(event.pointerId);
  });
  for (const name of ["pointerup", "pointercancel"]) plots.addEventListener(name, () => (dragged = null));
  plots.addEventListener("pointermove", (event) => {
    const x = place(event);
    if (dragged) {
      const by = ((dragged.x - event.clientX) / plotWidth()) * (dragged.to - dragged.from);
      look(dragged.from + by, dragged.to + by);
    }
    const inside = x >= gutter() && x <= width() - RIGHT;
    cross.hidden = !inside;
    readOut(inside ? toT(x) : null);
    if (!inside) {
      if (timeline) timeline.leave();
      return untip();
    }
    cross.style.left = x + "px";
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
      ["from", time(f.from)], ["to", f.to === null ? "not undone" : time(f.to)], ["what", f.says],
      ["effect", f.effective ? "measured" : "none shown"],
    ]);
  });
  plots.addEventListener("pointerleave", () => {
    cross.hidden = true;
    readOut(null);
    if (timeline) timeline.leave();
    untip();
  });
  plots.addEventListener("dblclick", () => look(whole.from, whole.to));
  $("lanes").addEventListener("wheel", (event) => {
    const out = event.deltaY > 0, full = view.to - view.from >= (whole.to - whole.from) * 0.9999;
    if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      event.preventDefault();
      const by = (event.deltaX / plotWidth()) * (view.to - view.from);
      return look(view.from + by, view.to + by);
    }
    if (out && full) return; // nothing left to zoom out of: the page scrolls on
    event.preventDefault();
    zoom(Math.exp(clamp(event.deltaY, -120, 120) * 0.0022), toT(place(event)));
  }, { passive: false });
}

function commands(timeline) {
  const span = () => view.to - view.from;
  const todo = {
    in: () => zoom(0.5), out: () => zoom(2), all: () => look(whole.from, whole.to),
    left: () => look(view.from - span() / 5, view.to - span() / 5), right: () => look(view.from + span() / 5, view.to + span() / 5),
    next: () => timeline && timeline.step(1), previous: () => timeline && timeline.step(-1),
  };
  for (const button of document.querySelectorAll("[data-do]")) button.addEventListener("click", todo[button.dataset.do]);
  for (const button of document.querySelectorAll("[data-goto]")) {
    button.addEventListener("click", () => {
      if (timeline) timeline.go(Number(button.dataset.goto));
      $("fig-lanes").scrollIntoView({ block: "center" });
    });
  }
  const anywhere = { n: "next", p: "previous" };
  const focused = { "+": "in", "=": "in", "-": "out", 0: "all", ArrowLeft: "left", ArrowRight: "right" };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName)) return;
    const name = anywhere[event.key] || ($("plots").contains(document.activeElement) && focused[event.key]);
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
  window.addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((d) => (d.open = true)));
  if (!$("plots")) return;
  try {
    let ops = null, timeline = null;
    measure();
    drawers.push(drawRibbon, drawChosen);
    if (meta.ops) {
      ops = decode(await unpack());
      makeCharts(ops);
    } else {
      for (const id of ["fig-rate", "fig-latency", "fig-lanes"]) $(id).hidden = true;
    }
    if (meta.nodes.length) {
      drawers.push(drawRoles);
      legend("roles-legend", [["leader", "leader", "block"], ["follower", "follower", "block"], ["candidate", "candidate", "ticks"], ["no answer", "down", "dotted"]]);
    } else {
      $("fig-roles").hidden = true;
    }
    if (ops) {
      timeline = makeTimeline(ops);
      legend("lanes-legend", [["ok", "ok", "shape"], ["fail", "fail", "shape"], ["info", "info", "shape"]]);
      $("jumps").hidden = !timeline.any;
    }
    pointing(timeline);
    commands(timeline);
    new ResizeObserver(redraw).observe($("plots"));
    drawAll();
  } catch (error) {
    $("plots").hidden = true;
    $("plots-failed").hidden = false;
    $("plots-failed").textContent = `The plots could not be drawn: ${error.message}.`;
    throw error;
  }
}
main().then(() => root.setAttribute("data-ready", "true"), (error) => fault(String((error && error.stack) || error)));
