"""What the report's script draws: small tables as JSON, the operations as compact columns.

Columns are little-endian integers, differences where they grow, their bytes regrouped by
significance (which halves what gzip leaves), concatenated, compressed and spelled in base64. A
million operations take some ten megabytes. Rates and quantiles are computed here: the page only
draws them.
"""

from __future__ import annotations

import base64
import gzip
from typing import Any, BinaryIO, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from results.report import values
from results.report.case import Case
from results.report.data import Run
from results.report.html import key_text, plain
from results.report.ops import OK, Operations
from results.report.verdict import outcome_of
from results.report.when import colour_of

LIMIT_BYTES: Final = (
    17_000_000  # of the whole payload, of a page of at most 20 MB; above it values stand beside the page
)
_plain_below: Final = 4096  # bytes; smaller columns are not worth compressing
_bins: Final = 400
_keys_bytes: Final = 3_000_000
_never: Final = 0xFFFFFFFF
_events: Final = 500


class Payload(msgspec.Struct, kw_only=True):
    """The two data blocks of the page. `left_out` says what did not fit, or is empty; `beside`: values were written
    to the file that stands beside the page."""

    meta: str
    columns: str
    left_out: str = ""
    beside: bool = False


def payload(run: Run, found: list[Case], limit: int | None = None, beside: BinaryIO | None = None) -> Payload:
    """The data of a run for the page's script, whose columns take at most `limit` bytes (None: `LIMIT_BYTES`) with
    the values in them. Where that is not enough the values go to `beside`, but for those of failing keys. None:
    they are left out.

    Raises: OSError when `beside` cannot be written.
    """
    meta: dict[str, Any] = {
        "face": outcome_of(run),
        "until": run.until / 1e9,
        "epoch": run.epoch_real_ns / 1e9 if run.epoch_real_ns is not None else None,
        "phases": [[plain(name, 40), time / 1e9] for name, time in run.phases[:100]],
        "faults": _faults(run),
        "nodes": [
            {
                "node": plain(n.node, 60),
                "spans": [
                    [s.start / 1e9, s.end / 1e9, plain(s.role, 30), s.term, plain(s.error, 200)]
                    for s in n.spans[:20_000]
                ],
            }
            for n in run.nodes
        ],
        "leaders": [[c.time / 1e9, plain(c.node, 60), c.term] for c in run.leaders[:2000]],
        "events": [
            [e["time"] / 1e9, plain(e["node"], 60), plain(e["kind"], 60), plain(e["text"], 200)]
            for e in run.events[:_events]
        ],
        "cases": [_case(case) for case in found],
        "bins": None,
        "ops": None,
    }
    limit = LIMIT_BYTES if limit is None else limit
    packed, left_out, moved = list[tuple[bytes, str]](), "", False
    if run.ops is not None and len(run.ops):
        ops = run.ops
        meta["bins"] = bins(ops, run.until)
        meta["ops"], parts = _operations(ops)
        packed.append(_pack(b"".join(parts)))
        text = values.within(ops, limit * 3 // 4 - len(packed[0][0]))  # base64 makes four bytes of three
        if text is not None:
            packed.append((text, "gzip"))
        else:
            meta["ops"]["kept"] = values.kept(ops)
            left_out = (
                f"The values of {len(ops):,} operations would make this page larger than {limit / 1e6:.0f} MB."
                " Those of failing keys are in it"
            )
            if beside is None:
                left_out += "; the others were left out, and history.jsonl has them."
            else:
                meta["ops"]["beside"] = values.write_beside(ops, beside)
                moved = True
                left_out += (
                    f"; the others stand beside it, in {values.NAME}, and are shown as they are asked for, when"
                    f" the page is served: splitbrain open {run.run}"
                )
    meta["packed"] = [[len(blob), encoding] for blob, encoding in packed]
    meta["run"] = plain(run.run, 60)
    told = msgspec.json.encode(meta).decode("utf-8", "replace").replace("<", "\\u003c")
    columns = base64.b64encode(b"".join(blob for blob, _ in packed)).decode()
    return Payload(meta=told, columns=columns, left_out=left_out, beside=moved)


def _faults(run: Run) -> list[dict[str, Any]]:
    return [
        {
            "id": plain(f.fault, 40),
            "label": plain(f.label or f.family, 60),
            "glyph": plain(f.glyph, 2),
            "colour": colour_of(f),
            "from": f.applied / 1e9,
            "to": f.undone / 1e9 if f.undone is not None else None,
            "says": plain(f.says, 300),
            "effective": f.effective,
        }
        for f in run.faults[:5000]
        if f.applied is not None
    ]


def _case(case: Case) -> dict[str, Any]:
    times = case.times
    return {
        "title": plain(f"{case.check} of key {key_text(case.key)}", 200),
        "from": times[0] / 1e9 if times else None,
        "to": times[1] / 1e9 if times else None,
        "rows": [op.row for op in case.ops if op.row is not None and not op.assumed],
        "assumed": [op.row for op in case.ops if op.row is not None and op.assumed],
    }


def bins(ops: Operations, until: int) -> dict[str, Any]:
    """Rates by outcome (operations/s, by completion) and latency quantiles of ok (ms, None: none)."""
    width = _nice(max(until, 1) / _bins)
    number = int(max(until, 1) // width) + 1
    done = ops.start + ops.duration.clip(min=0)
    place = np.clip(done // width, 0, number - 1)
    per_s = 1e9 / width
    out: dict[str, Any] = {"width": width / 1e9, "n": number}
    for name, code in (("ok", 1), ("fail", 2), ("info", 3)):
        counted = np.bincount(place[ops.outcome == code], minlength=number)
        out[name] = [round(c * per_s, 3) for c in counted.tolist()]
    fine = (ops.outcome == OK) & (ops.duration >= 0)
    where, took = place[fine], ops.duration[fine]
    order = np.lexsort((took, where))
    where, took = where[order], took[order]
    first = np.searchsorted(where, np.arange(number))
    size = np.searchsorted(where, np.arange(number), side="right") - first
    for name, q in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("max", 1.0)):
        at = first + np.maximum(np.ceil(size * q).astype(np.int64) - 1, 0)
        out[name] = [
            round(int(took[a]) / 1e6, 4) if s else None
            for a, s in zip(at.tolist(), size.tolist(), strict=True)
        ]
    ended = ops.duration[ops.duration > 0]
    out["least_ms"] = float(ended.min()) / 1e6 if len(ended) else 0.1
    out["most_ms"] = float(ended.max()) / 1e6 if len(ended) else 1000.0
    return out


def _nice(width: float) -> int:
    """The next width (ns) of the form 1, 2 or 5 times a power of ten, at least 1 ms."""
    size = 10**6
    while True:
        for step in (1, 2, 5):
            if step * size >= width:
                return step * size
        size *= 10


def _operations(ops: Operations) -> tuple[dict[str, Any], list[bytes]]:
    start_us = ops.start.clip(min=0) // 1000
    took = np.where(ops.duration < 0, _never, np.minimum((ops.duration + 500) // 1000, _never - 1))
    columns: list[tuple[str, NDArray[Any], bool]] = [
        ("start", start_us, True),
        ("took", took, False),
        ("index", ops.index, True),
        ("outcome", ops.outcome, False),
        ("lane", ops.lane, False),
        ("f", ops.f, False),
        ("key", ops.key, False),
        ("error", ops.error, False),
    ]
    directory, parts, offset = [], [], 0
    for name, column, grows in columns:
        data, size = _column(column, grows=grows)
        directory.append({"name": name, "size": size, "grows": grows, "offset": offset})
        parts.append(data)
        offset += len(data)
    keys = [plain(_key(raw), 80) for raw in ops.keys] if sum(map(len, ops.keys)) <= _keys_bytes else []
    return {
        "n": len(ops),
        "columns": directory,
        "f": [plain(f, 60) for f in ops.f_names],
        "keys": keys,
        "errors": [plain(e, 200) for e in ops.errors],
        "lanes": [plain(node, 60) for node in ops.lanes],
        "processes": [[plain(name, 40), lane, max(first, 0) / 1e9] for name, lane, first in ops.processes],
    }, parts


def _key(raw: bytes) -> str:
    try:
        return key_text(msgspec.json.decode(raw)) if raw != b"null" else ""
    except msgspec.DecodeError:
        return raw.decode("utf-8", "replace")


def _column(column: NDArray[Any], *, grows: bool) -> tuple[bytes, int]:
    """A column's bytes, all lowest first, then the next; and how many bytes a value has (1, 2, 4).

    What grows is kept as zigzagged differences: a journal's order is not its index's.
    """
    values = column.astype(np.int64)
    if grows:
        values = np.diff(values, prepend=0)
        values = (values << 1) ^ (values >> 63)
    values = values.clip(0, _never)
    most = int(values.max(initial=0))
    size = 1 if most < 2**8 else 2 if most < 2**16 else 4
    narrow = values.astype(f"<u{size}")
    return narrow.view(np.uint8).reshape(-1, size).T.tobytes(), size


def _pack(raw: bytes) -> tuple[bytes, str]:
    if len(raw) < _plain_below:
        return raw, "plain"
    return gzip.compress(raw, 6, mtime=0), "gzip"
