"""What no run directory may show: kept apart, found again by the run, dropped in the end."""

from pathlib import Path

import pytest

from harness.core import secrets
from harness.core.spec import Spec


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SPLITBRAIN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


SPEC = Spec(options={"ssh": {"key": "/home/me/.ssh/id", "sudo": True}, "etcd": {"key": "no secret"}})


def test_a_secret_is_hidden_and_found_again_until_it_is_forgotten(cache: Path) -> None:
    shown, held = secrets.hide(SPEC, {"ssh": {"key", "none"}, "other": {"key"}})
    assert shown.of("ssh") == {"key": "[redacted]", "sudo": True}
    assert shown.of("etcd") == {"key": "no secret"}
    secrets.keep("abc123", held)
    (path,) = (cache / "secrets").iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert secrets.reveal(shown, "abc123") == SPEC
    assert secrets.reveal(shown, "other1") == shown
    secrets.keep("abc123", held)
    secrets.forget("abc123")
    secrets.forget("abc123")
    assert secrets.reveal(shown, "abc123") == shown


def test_where_nothing_is_secret_nothing_is_kept(cache: Path) -> None:
    shown, held = secrets.hide(SPEC, {"ssh": {"passphrase"}})
    assert (shown, held) == (SPEC, {})
    secrets.keep("abc123", held)
    assert not cache.exists()
