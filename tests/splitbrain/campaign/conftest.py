"""What the tests of campaigns share."""

from __future__ import annotations

import pytest


@pytest.fixture
def in_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nights of pretended runs wait for nothing, and none of them loses its power."""
    monkeypatch.setattr("splitbrain.campaign.runner._look_s", 0)
    monkeypatch.setattr("os.fsync", lambda _fd: None)
