"""`export --parquet`: one row an operation in typed columns, for pandas, DuckDB, Spark and the like.

Keys, values, results and `ext` are JSON text: their types are the workload's, and may change from one operation to the
next; what is not there is null, and so is JSON's null. Times are integers, ns since the run's start. The file's own
metadata has what the run was, as JSON under `splitbrain`.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from results.export import Source, summary
from results.export.operations import Operation, operations

ROWS: Final = 65_536  # of a row group
_name: Final = pa.dictionary(pa.int32(), pa.string())
_types: Final[dict[str, Any]] = {
    "invoke": pa.int64(),
    "complete": pa.int64(),
    "start_ns": pa.int64(),
    "end_ns": pa.int64(),
    "process": pa.string(),
    "node": _name,
    "f": _name,
    "key": pa.string(),
    "value": pa.string(),
    "result": pa.string(),
    "outcome": _name,
    "error": _name,
    "ext": pa.string(),
}


def write(source: Source, path: Path) -> None:
    """Write the operations of a source. Raises: like `operations`."""
    about = msgspec.json.encode(summary(source))
    schema = pa.schema(list(_types.items()), metadata={b"splitbrain": about})
    rows = operations(source.needed())
    with pq.ParquetWriter(path, schema, compression="zstd") as out:
        while chunk := list(islice(rows, ROWS)):
            out.write_table(
                pa.table({n: pa.array(_column(chunk, n), _types[n]) for n in _types}, schema=schema)
            )


def _column(ops: list[Operation], name: str) -> list[Any]:
    values = [getattr(op, name) for op in ops]
    if name == "process":
        return [str(value) for value in values]
    return [
        None if v == b"null" else v.decode("utf-8", "replace") if isinstance(v, bytes) else v for v in values
    ]
