"""Cells on many machines: Dask distributed places them, and nothing else.

    dask worker ADDRESS --nthreads 4 --resources "splitbrain=2"      as many clusters at once on this host

Each order is one task that asks for one `splitbrain`, so that a host holds no more clusters than its workers
say. All workers see the campaign's folder under the same path; one that does not says so, as an error of the cell.

A worker that dies takes its runs along (they heal themselves: the kernel tells them), and the scheduler gives their
tasks to another one. There the run's id is found taken: nothing is run again, and what comes back is that the attempt
was cut off. So a worker's death shows as such, is never a pass, and its cell gets another attempt.
"""

from __future__ import annotations

import socket
from importlib import import_module
from typing import Any, Final

from harness.core.errors import InfrastructureError, UsageError
from harness.core.results import failed
from splitbrain.campaign.cell import Order, Outcome, execute
from splitbrain.campaign.plan import Cell

RESOURCE: Final = "splitbrain"
_connect_s: Final = 10.0


class Workers:
    """The workers of a Dask cluster.

    Raises: UsageError where the extra is not installed or no worker has the resource; InfrastructureError where the
    scheduler cannot be reached.
    """

    def __init__(self, address: str) -> None:
        try:
            distributed: Any = import_module("distributed")
        except ImportError:
            raise UsageError(
                "--dask needs Dask distributed, which is not installed; install `splitbrain[dask]` here and on the"
                " workers"
            ) from None
        try:
            self._client = distributed.Client(address, timeout=_connect_s, set_as_default=False)
        except (OSError, ValueError) as e:
            raise InfrastructureError(
                f"cannot reach the Dask scheduler at {address}: {e}; is it running?"
            ) from None
        self._on: dict[str, Any] = {}
        if not self._room():
            self._client.close()
            raise UsageError(
                f"no worker of {address} has the resource; start them with `dask worker {address} --resources"
                f' "{RESOURCE}=2"`, the number of clusters that a host may hold at once'
            )

    def _room(self) -> int:
        """How many clusters all workers may hold at once."""
        workers = self._client.scheduler_info(n_workers=-1)["workers"].values()
        return int(sum(w.get("resources", {}).get(RESOURCE, 0) for w in workers))

    def fits(self, cell: Cell) -> bool:
        del (
            cell
        )  # the scheduler knows which host has room; here is only kept from piling up what may never start
        return len(self._on) < self._room()

    def start(self, cell: Cell, order: Order) -> None:
        del cell
        self._on[order.run] = self._client.submit(
            execute, order, key=f"splitbrain-{order.run}", resources={RESOURCE: 1}, pure=False, retries=0
        )

    def ended(self) -> list[Outcome]:
        found = []
        for run, future in list(self._on.items()):
            if not future.done():
                continue
            del self._on[run]
            if future.status == "finished":
                found.append(future.result())
            else:
                found.append(_lost(run, future))
        return found

    def stop(self) -> None:
        """Workers end what goes on by its own signals; what no worker has begun is taken back."""
        for run, future in list(self._on.items()):
            if future.status != "pending":
                continue
            begun: dict[str, bool] = self._client.run(_stop, run, on_error="ignore")
            if not any(begun.values()):
                future.cancel()

    def running(self) -> list[str]:
        return list(self._on)

    def close(self) -> None:
        self._client.close()


def _lost(run: str, future: Any) -> Outcome:
    """A task that the scheduler has given up: its workers died, or it was cancelled. No pass, and no verdict."""
    try:
        future.result(timeout=1)
        told = "its task ended without a result"
    except Exception as e:  # noqa: BLE001 - whatever a scheduler may say
        told = f"{type(e).__name__}: {str(e).splitlines()[0] if str(e) else ''}"
    results = {**failed(f"the run was lost with its worker: {told}"), "error": None, "interrupted": True}
    return Outcome(run=run, how="cut-off", results=results, host=socket.gethostname(), code=130)


def _stop(run: str) -> bool:
    """On a worker: stop the run if it is here; whether it is."""
    from splitbrain.campaign import cell

    here = [process for process in list(cell.EXECUTING) if process.order.run == run]
    for process in here:
        process.stop()
    return bool(here)
