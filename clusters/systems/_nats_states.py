"""What a stream holds below a subject, as of one state of it: its elements are the subjects' last tokens."""

from __future__ import annotations

from time import monotonic, sleep
from typing import Any, Final

import msgspec

from clusters.systems import _nats_names as names
from clusters.systems._nats_jetstream import JetStream, garbled
from harness.core.errors import Definite

_AGAIN_S: Final = 0.003


class _State(msgspec.Struct):
    last_seq: int = 0
    subjects: dict[str, int] = {}


class _Info(msgspec.Struct):
    """Answer to STREAM.INFO; `total` is there where the subjects do not fit into one answer."""

    state: _State
    total: int = 0


_info_decoder: Final = msgspec.json.Decoder(_Info)


class States(JetStream):
    """Reads of whole states."""

    def _elements(self, name: str, stem: str, mark: str, deadline: float) -> list[Any]:
        """The last tokens of all subjects that begin with `stem`. The leader's word, who notes its last sequence
        before it lists subjects: so all up to that is among them.

        With `checked` reads a mark is published before, and asked again until the state holds it.

        Raises: Definite.
        """
        least = self._reading(f"{mark}{self._mark}", deadline) if self._reads == "checked" else 0
        while True:
            body = self._api(f"STREAM.INFO.{name}", {"subjects_filter": f"{stem}>"}, deadline)
            try:
                said = _info_decoder.decode(body or b"")
                if said.state.last_seq >= least:
                    if said.total > len(said.state.subjects):
                        raise Definite("more subjects than fit into an answer")
                    return [
                        names.value_of(subject[len(stem) :])
                        for subject, messages in said.state.subjects.items()
                        for _ in range(messages)
                    ]
            except garbled:
                self._nonsense()
            if monotonic() + _AGAIN_S > deadline:
                self.close()
                raise Definite("behind")  # a state from before what was acknowledged
            sleep(_AGAIN_S)
