"""Node logs, tied to the run's time: they follow what is selected in the plots, and lead there."""

from __future__ import annotations

from results.report.data import Run
from results.report.html import esc, esc_text, plural, section
from results.report.log_files import Chunk
from results.report.verdict import outcome_of
from results.report.when import wall


def logs(run: Run) -> str:
    """Each log, its lines by the time at which they were there."""
    if not run.logs:
        return section("logs", "Node logs", '<p class="empty">There are no logs.</p>')
    bad_end = outcome_of(run) in ("error", "unfinished")
    items = []
    for number, log in enumerate(run.logs):
        before = f", {log.left_out:,} of {log.size:,} bytes left out" if log.left_out else ""
        unfold = " open" if bad_end and log.lines else ""
        body = "".join(_chunk(run, c) for c in log.chunks) or "(empty)"
        items.append(
            f'<details class="log" data-log="{number}"{unfold}><summary><code>{esc(log.name, 120)}</code> '
            f'<span class="note">{plural(log.lines, "line")}{before}</span><span class="now"></span></summary>'
            f'<pre tabindex="0">{body}</pre></details>'
        )
    note = (
        "The time beside lines is the run's, at which the file was first seen to hold them, ten looks a second;"
        " what lines say themselves is the node's own clock. Whole files are in logs/."
    )
    controls = (
        '<div class="controls scripted" id="log-controls"><button type="button" data-logs="open">Unfold all</button>'
        '<button type="button" data-logs="close">Fold all</button><output id="log-time">Select a time in the plots,'
        " in a violation or here: logs go to it.</output></div>"
    )
    return section("logs", "Node logs", controls + "".join(items), note)


def _chunk(run: Run, chunk: Chunk) -> str:
    gap = f'<span class="gap">{chunk.before:,} bytes left out</span>' if chunk.before else ""
    text = "\n".join(esc_text(line) for line in chunk.lines)
    if chunk.time is None:
        return f'{gap}<span class="chunk">{text}\n</span>'
    t = chunk.time / 1e9
    at = (
        f'<a class="at" href="#time" data-seconds="{t:.3f}" data-at="{t:.1f} s"'
        f' title="{esc(wall(run, chunk.time))}" aria-label="{t:.1f} seconds"></a>'
    )
    return f'{gap}<span class="chunk" data-t="{t:.3f}">{at}{text}\n</span>'
