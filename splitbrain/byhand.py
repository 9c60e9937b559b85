"""A run whose operations and faults are asked for one by one: the process behind `LiveCluster` (`splitbrain.live`).

    python -P -m splitbrain.byhand RUN_DIR       with RUN_DIR/spec.json

It lives the life of any run (`harness.lifecycle`); but its generator hands out what it is asked for on stdin, and its
nemesis takes no schedule. One JSON object a line:

    <- {"ready": true, "nodes": ["n1", ...], "threads": 12}         the load has begun
    -> {"id": 1, "do": "call", "thread": 0, "f": "write", "key": "k", "value": 5}
    <- {"id": 1, "type": "ok", "value": 5, "error": null}
    -> {"id": 2, "do": "begin", "family": "partition", "target": null}
    <- {"id": 2, "fault": "f1", "target": "leader", "nodes": ["n1"], "says": "...", "effective": true}
       {"id": 2, "error": "..."} where it cannot be
    -> {"id": 3, "do": "end", "fault": "f1"}
    <- {"id": 3, "says": "...", "effective": true}
    -> {"do": "close"}

After `close`, or when stdin ends, the run goes on as others do: faults are undone, the cluster recovers, every key is
read through every node, and what there is gets judged.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
from collections import defaultdict, deque
from collections.abc import Callable
from functools import partial
from typing import IO, Any, Final

import msgspec

from harness.core.errors import SplitbrainError
from harness.core.fault import Evidence, Fault, FaultContext, Phase, Plan
from harness.core.generator import Answer, Context, Generator, Pending, op
from harness.core.op import Op
from harness.lifecycle import Parts, Stop
from harness.nemesis import Nemesis
from nemesis.schedule import Step
from nemesis.targets import BY_ROLE

_POLL_NS: Final = 2_000_000  # how often an idle client looks whether it has been asked for something
_LOOK_S: Final = 0.05

Say = Callable[[dict[str, Any]], None]


def main() -> None:
    """Live through a run that stdin directs."""
    from splitbrain import runner

    talk = os.fdopen(os.dup(1), "w", encoding="utf-8")  # stdout becomes the log's, as in other runs
    os.dup2(2, 1)
    runner.main(partial(_directed, talk))


def _directed(talk: IO[str], parts: Parts, _stop: Stop) -> Parts:
    """The parts of a run with our generator and nemesis in them. From here on stdin is read."""
    lock = threading.Lock()

    def say(line: dict[str, Any]) -> None:
        with lock:
            try:
                talk.write(msgspec.json.encode(line).decode() + "\n")
                talk.flush()
            except OSError:  # whoever asked is gone; so is stdin
                pass

    asked = Asked(say)
    requests: queue.Queue[dict[str, Any]] = queue.Queue()
    threading.Thread(target=_read, args=(asked, requests), daemon=True, name="director").start()
    hello = {
        "ready": True,
        "nodes": [f"n{i + 1}" for i in range(parts.spec.nodes)],
        "threads": parts.spec.concurrency,
    }
    nemesis = partial(ByHand, requests=requests, say=say, hello=hello)
    workload = msgspec.structs.replace(parts.workload, generator=asked)
    return msgspec.structs.replace(parts, workload=workload, steps=(), nemesis=nemesis)


def _read(asked: Asked, requests: queue.Queue[dict[str, Any]]) -> None:
    for raw in sys.stdin.buffer:
        request = msgspec.json.decode(raw, type=dict[str, Any])
        if request["do"] == "call":
            asked.put(request)
        elif request["do"] == "close":
            break
        else:
            requests.put(request)
    asked.closed = True


class Asked:
    """A generator of what is asked for. It is told to from another thread, and so is no pure value.

    A completion is answered when its worker looks for more a second time: by then it is in the journal.
    """

    def __init__(self, say: Say) -> None:
        self._say = say
        self._waiting: defaultdict[int, deque[dict[str, Any]]] = defaultdict(deque)
        self._under_way: dict[int, dict[str, Any]] = {}
        self._done: dict[int, tuple[dict[str, Any], bool]] = {}
        self.closed = False

    def put(self, request: dict[str, Any]) -> None:
        self._waiting[request["thread"]].append(request)

    def next(self, ctx: Context) -> Answer:
        if ctx.thread in self._done:
            answer, journaled = self._done.pop(ctx.thread)
            if journaled:
                self._say(answer)
            else:
                self._done[ctx.thread] = (answer, True)
        waiting = self._waiting[ctx.thread]
        if waiting and ctx.thread not in self._done:
            request = self._under_way[ctx.thread] = waiting.popleft()
            return op(request["f"], request.get("value"), key=request.get("key")), self
        if self.closed and not self._done:
            return None
        return Pending(ctx.time + _POLL_NS, event=False), self

    def update(self, ctx: Context, event: Op) -> Generator:
        if event.type != "invoke":
            about = {"type": event.type, "value": event.value, "error": event.error}
            self._done[ctx.thread] = ({"id": self._under_way.pop(ctx.thread)["id"], **about}, False)
        return self


class ByHand(Nemesis):
    """The nemesis that begins and ends faults when it is asked to."""

    def __init__(
        self, *, requests: queue.Queue[dict[str, Any]], say: Say, hello: dict[str, Any], **parts: Any
    ) -> None:
        super().__init__(**parts)
        self._requests, self._say, self._hello = requests, say, hello
        self._roles = bool(getattr(parts["system"], "roles", True))
        self._nodes = len(parts["cluster"].nodes)
        self._measured: dict[tuple[str, Phase], Evidence] = {}
        self._n = 0

    def start(self) -> None:
        super().start()
        self._say(self._hello)

    def _live(self) -> None:
        while not self._stopping.is_set():
            try:
                request = self._requests.get(timeout=_LOOK_S)
            except queue.Empty:
                continue
            try:
                answer = self._injected(request) if request["do"] == "begin" else self._healed(request)
            except SplitbrainError as e:
                self._say({"id": request["id"], "error": str(e)})
                raise
            self._say({"id": request["id"], **answer})

    def _injected(self, request: dict[str, Any]) -> dict[str, Any]:
        family = request["family"]
        target = request["target"] or self._usual(self._faults[family])
        self._n += 1
        step = Step(n=self._n, at_s=0.0, hold_s=float("inf"), family=family, target=target)
        self._waiting.append(step)
        refused = self._begin(step)
        if refused is not None:
            self._waiting.remove(step)
            return {"error": f"{family}:{target} cannot be applied now: {refused}"}
        plan = next(a.plan for a in self._active if a.step is step)
        about = {"fault": plan.fault, "target": target, "nodes": list(plan.nodes), "says": plan.says}
        return {**about, "effective": self._effect(plan.fault, "during")}

    def _healed(self, request: dict[str, Any]) -> dict[str, Any]:
        found = [a for a in self._active if a.plan.fault == request["fault"]]
        if not found:
            return {"error": f"{request['fault']} is not in force"}
        self._end(found[0])
        after = self._measured.get((request["fault"], "after"))
        return {"says": after.says if after else "", "effective": self._effect(request["fault"], "during")}

    def _usual(self, fault: Fault) -> str:
        """The first of the targets that a family draws from which there is."""
        refusal: Callable[[str, int], str | None] = getattr(fault, "refusal", lambda _target, _nodes: None)
        fit = [t for t in fault.default_targets if self._roles or t not in BY_ROLE]
        return next((t for t in fit if refusal(t, self._nodes) is None), fault.default_targets[0])

    def _effect(self, fault: str, phase: Phase) -> bool:
        found = self._measured.get((fault, phase))
        return found is not None and found.effect is True

    def _observe(self, fault: Fault, ctx: FaultContext, plan: Plan, phase: Phase) -> Evidence:
        found = self._measured[plan.fault, phase] = super()._observe(fault, ctx, plan, phase)
        return found


if __name__ == "__main__":
    main()
