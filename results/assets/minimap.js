// The whole run in a strip, with a window on what the plots show. Drag the window to move, an edge to
// stretch it, press elsewhere to go there.

const MAP_HEIGHT = 46, MAP_EDGE = 6;

function makeMinimap() {
  const canvas = $("minimap"), still = document.createElement("canvas");
  let drawnFor = "";
  const mapX = (u) => gutter() + ((u - whole.from) / (whole.to - whole.from)) * plotWidth();
  const mapU = (x) => whole.from + ((x - gutter()) / plotWidth()) * (whole.to - whole.from);

  // What does not change with the view is drawn once for each width and scheme.
  function background(ratio) {
    const now = [width(), ratio, axis.order, colour("paper")].join();
    if (now === drawnFor) return;
    drawnFor = now;
    still.width = Math.round(width() * ratio);
    still.height = MAP_HEIGHT * ratio;
    const c = still.getContext("2d"), floor = MAP_HEIGHT - 9, top = 8;
    c.scale(ratio, ratio);
    c.fillStyle = colour("sunk");
    c.fillRect(gutter(), top, plotWidth(), MAP_HEIGHT - top);
    for (const f of faults) {
      c.fillStyle = alpha(f.colour, 0.3);
      const a = mapX(warp(f.from));
      c.fillRect(a, top, Math.max(mapX(warp(f.until)) - a, 1), MAP_HEIGHT - top);
    }
    if (bins) {
      const most = Math.max(1, ...bins.ok.map((n, i) => n + bins.fail[i] + bins.info[i]));
      const edges = bins.ok.map((_, i) => mapX(warp(i * bins.width)));
      edges.push(gutter() + plotWidth());
      bins.ok.forEach((n, i) => {
        const a = edges[i], w = Math.max(edges[i + 1] - a, 0.5), all = n + bins.fail[i] + bins.info[i];
        c.fillStyle = alpha("ok", 0.75);
        c.fillRect(a, floor - ((floor - top) * all) / most, w, ((floor - top) * all) / most);
        // Shapes beside colours: fail is a thin line, info a thick one below it.
        if (bins.fail[i]) { c.fillStyle = colour("fail"); c.fillRect(a, floor + 1, w, 2); }
        if (bins.info[i]) { c.fillStyle = colour("info"); c.fillRect(a, floor + 4, w, 5); }
      });
    }
    c.fillStyle = colour("hit");
    for (const one of meta.cases) {
      if (one.from === null) continue;
      const x = mapX(warp((one.from + one.to) / 2));
      c.beginPath();
      c.moveTo(x - 4, 0); c.lineTo(x + 4, 0); c.lineTo(x, 7);
      c.fill();
    }
  }
  function draw() {
    const ratio = window.devicePixelRatio || 1, c = surface(canvas, MAP_HEIGHT);
    background(ratio);
    c.drawImage(still, 0, 0, width(), MAP_HEIGHT);
    const a = mapX(view.from), b = Math.max(mapX(view.to), a + 3);
    c.fillStyle = alpha("paper", 0.66);
    c.fillRect(gutter(), 8, a - gutter(), MAP_HEIGHT);
    c.fillRect(b, 8, gutter() + plotWidth() - b, MAP_HEIGHT);
    c.strokeStyle = colour("ink");
    c.lineWidth = 1.5;
    c.strokeRect(a + 0.75, 8.75, Math.max(b - a - 1.5, 1), MAP_HEIGHT - 9.5);
    c.fillStyle = colour("ink");
    for (const x of [a, b]) c.fillRect(x - 1.5, MAP_HEIGHT / 2 - 3, 3, 14);
  }

  let held = null;
  const xOf = (event) => event.clientX - canvas.getBoundingClientRect().left;
  const partAt = (x) => {
    const a = mapX(view.from), b = mapX(view.to);
    if (Math.abs(x - a) <= MAP_EDGE) return "from";
    if (Math.abs(x - b) <= MAP_EDGE) return "to";
    return x > a && x < b && !isWhole() ? "window" : "";
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    const x = xOf(event), part = partAt(x);
    if (!part) {
      const span = isWhole() ? (whole.to - whole.from) / 8 : view.to - view.from;
      look(mapU(x) - span / 2, mapU(x) + span / 2);
    }
    held = { part: part || "window", x, from: view.from, to: view.to };
    canvas.setPointerCapture(event.pointerId);
    event.preventDefault();
  });
  canvas.addEventListener("pointermove", (event) => {
    const x = xOf(event);
    if (!held) {
      const part = partAt(x);
      canvas.style.cursor = part === "window" ? "grab" : part ? "ew-resize" : "pointer";
      return;
    }
    const by = mapU(x) - mapU(held.x);
    if (held.part === "window") look(held.from + by, held.to + by);
    else if (held.part === "from") look(Math.min(held.from + by, held.to), held.to);
    else look(held.from, Math.max(held.to + by, held.from));
  });
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => (held = null));
  eachFrame(draw, canvas);
}
