"""What a report of a million operations costs: to build, to carry, to open, and to move about in.

    python -m benchmarks.report [OPERATIONS] [--keep DIRECTORY] [--screenshot FILE]

A made-up run of fifty clients is reported by `splitbrain report` in a process of its own and opened
in headless Chromium with software rendering, from `file://`. Frames are measured in the page while
it zooms in at the wheel, pans and zooms out again, in each grouping and on both axes: the time from
a frame's first callback to the end of its painting on the main thread. Beside the wall clock stands
the processor time of the same frames, as the browser's trace has it; on a busy machine only that
says what the page itself costs. Exit 0 when every aim is met, 1 otherwise.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import Browser, Page, sync_playwright
from rich.console import Console
from rich.table import Table

from tests.results.synth import make_run

BUILD_S: Final = 15.0
PEAK_MB: Final = 1000.0
FILE_MB: Final = 20.0
OPEN_S: Final = 2.0
FRAME_MS: Final = 16.0
FLAGS: Final = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking")
_trace: Final = (
    "toplevel",
    "devtools.timeline",
    "disabled-by-default-devtools.timeline",
    "blink.user_timing",
)
_moving: Final = "splitbrain:moving"  # the mark from which frames count: before it the page is scrolled to

# Times each frame from its first callback to the message that comes after its painting.
PROBE: Final = """
const raw = window.requestAnimationFrame.bind(window);
window.frameTimes = [];
let now = -1;
window.requestAnimationFrame = (call) => raw((stamp) => {
  if (stamp !== now) {
    now = stamp;
    const begin = performance.now(), channel = new MessageChannel();
    channel.port1.onmessage = () => window.frameTimes.push(performance.now() - begin);
    channel.port2.postMessage(0);
  }
  call(stamp);
});
"""
# Wheels in at a place, pans by dragging, wheels out; one step a frame.
MOVE: Final = """
async () => {
  const lanes = document.getElementById("lanes"), plots = document.getElementById("plots");
  lanes.scrollIntoView({block: "center", behavior: "instant"});
  const frame = () => new Promise((done) => requestAnimationFrame(done));
  for (let i = 0; i < 5; i++) await frame();
  window.frameTimes.length = 0;
  performance.mark("splitbrain:moving");
  const box = lanes.getBoundingClientRect(), x = box.left + box.width * 0.61, y = box.top + 40;
  const wheel = async (deltaY, times) => {
    for (let i = 0; i < times; i++) {
      lanes.dispatchEvent(new WheelEvent("wheel", {deltaY, clientX: x, clientY: y, bubbles: true, cancelable: true}));
      await frame();
    }
  };
  const point = (type, at) => lanes.dispatchEvent(new PointerEvent(type,
    {pointerId: 1, button: 0, clientX: at, clientY: y, bubbles: true}));
  const pan = async (times) => {
    for (let k = 0; k < times; k++) {
      point("pointermove", x - 8 * (k % 60));
      await frame();
    }
  };
  plots.setPointerCapture = () => {};
  for (let round = 0; round < 3; round++) {
    await wheel(-100, 14);
    point("pointerdown", x);
    await pan(30);
    point("pointerup", x);
  }
  await wheel(100, 45);
  await frame();
  await frame();
  return window.frameTimes;
}
"""


def build(run: Path) -> tuple[float, float, float]:
    """Write the report as a user does: wall seconds, processor seconds, peak memory in MB."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    code = (
        "import sys; from pathlib import Path; from results.report.page import write_report;"
        " write_report(Path(sys.argv[1]))"
    )
    subprocess.run([sys.executable, "-c", code, str(run)], check=True)
    wall = time.monotonic() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, after.ru_maxrss / 1000


def opened(browser: Browser, page_file: Path) -> tuple[Page, dict[str, float]]:
    """The page once its plots are drawn, and when (s after opening) text and plots stood."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.add_init_script(PROBE)
    page.on("pageerror", lambda e: print(f"the page failed: {e}", file=sys.stderr))
    page.goto(page_file.as_uri(), wait_until="commit")
    page.wait_for_selector("html[data-ready=true]", state="attached", timeout=120_000)
    page.wait_for_timeout(300)
    marks = page.evaluate(
        "Object.fromEntries(performance.getEntries().filter((e) => /paint|splitbrain/.test(e.name))"
        ".map((e) => [e.name, e.startTime / 1000]))"
    )
    return page, marks


def frames_of(browser: Browser, page: Page) -> tuple[list[float], list[float]]:
    """Frame times in ms: by the page's own clock, and processor time of the main thread."""
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        browser.start_tracing(page=page, path=trace, categories=list(_trace))
        wall = page.evaluate(MOVE)
        browser.stop_tracing()
        events: list[dict[str, Any]] = json.loads(trace.read_text())["traceEvents"]
    marks = [e for e in events if e["name"] == "FireAnimationFrame" and "ts" in e]
    begun = min(e["ts"] for e in events if e["name"] == _moving)
    tasks = [e for e in events if e["name"] == "RunTask" and "tdur" in e and e["ts"] > begun]
    cpu = []
    for task in tasks:
        inside = [
            m for m in marks
            if m["tid"] == task["tid"] and m["pid"] == task["pid"]
            and task["ts"] <= m["ts"] <= task["ts"] + task["dur"]
        ]  # fmt: skip
        if inside:
            cpu.append(task["tdur"] / 1000)
    return wall, cpu


def quantiles(values: list[float]) -> tuple[float, float, float]:
    """p50, p99 and the largest."""
    ordered = sorted(values)
    return statistics.median(ordered), ordered[int(0.99 * (len(ordered) - 1))], ordered[-1]


def main(argv: list[str]) -> int:
    asks = argparse.ArgumentParser(prog="python -m benchmarks.report")
    asks.add_argument("operations", nargs="?", type=int, default=1_000_000)
    asks.add_argument("--keep", type=Path, help="make the run here, or use the one that is here")
    asks.add_argument("--screenshot", type=Path)
    given = asks.parse_args(argv)
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        print("needs Chromium (the Debian package `chromium`) on PATH", file=sys.stderr)
        return 2
    rows: list[tuple[str, str, str, bool]] = []

    def row(what: str, value: float, unit: str, aim: float, note: str = "") -> None:
        rows.append((what, f"{value:,.3g} {unit}{note}", f"{aim:g} {unit}", value <= aim))

    with tempfile.TemporaryDirectory() as folder:
        root = given.keep or Path(folder)
        found = sorted(root.glob("*/*/history.jsonl"))
        run = (
            found[0].parent
            if found
            else make_run(
                root, "invalid", ops=given.operations, rate=max(given.operations / 100, 200), clients=50
            )
        )
        wall, cpu, peak = build(run)
        row("build", wall, "s", BUILD_S, f" ({cpu:.1f} s of processor time)")
        row("peak memory", peak, "MB", PEAK_MB)
        row("file", (run / "report.html").stat().st_size / 1e6, "MB", FILE_MB)
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=chromium, args=list(FLAGS))
            page, marks = opened(browser, run / "report.html")
            text = marks.get("first-contentful-paint", 0.0)
            row("first text after opening", text, "s", OPEN_S)
            row("first plots after opening", marks["splitbrain:first"], "s", OPEN_S)
            rows.append(("every operation after opening", f"{marks['splitbrain:drawn']:.3g} s", "", True))
            for by, axis in (("process", "time"), ("key", "time"), ("node", "time"), ("process", "order")):
                page.evaluate(f"document.querySelector('[data-by={by}]').click()")
                page.evaluate(f"document.querySelector('[data-axis={axis}]').click()")
                page.wait_for_timeout(500)
                times, thread = frames_of(browser, page)
                for name, values in (("", times), (" (processor)", thread)):
                    p50, p99, most = quantiles(values)
                    shown = f"{p50:.1f} / {p99:.1f} / {most:.1f} ms"
                    rows.append(
                        (f"frame by {by}, {axis} axis{name}", shown, f"{FRAME_MS:g} ms", p99 <= FRAME_MS)
                    )
            if given.screenshot:
                page.screenshot(path=given.screenshot)
            errors = page.evaluate("document.documentElement.dataset.errors")
            browser.close()
    shown = Table(title=f"the report of {given.operations:,} operations; frames as p50 / p99 / max")
    for heading in ("", "measured", "aim", "within"):
        shown.add_column(heading, justify="left" if not heading else "right")
    for what, value, aim, met in rows:
        shown.add_row(what, value, aim, "yes" if met else "NO")
    Console(width=110).print(shown)
    if errors:
        print(f"errors in the page: {errors}", file=sys.stderr)
    return 0 if not errors and all(met for *_, met in rows) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
