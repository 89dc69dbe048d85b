"""What the manifest says of the computer that judged, and of the day."""

import platform
from datetime import UTC, datetime

import pytest

from edgepass.judging import host


def test_the_host_is_named() -> None:
    found = host.this()
    assert found.cpu.strip() == found.cpu != ""
    assert found.cores >= 1
    assert platform.system() in found.system
    assert found.python == platform.python_version()


@pytest.mark.parametrize(("epoch", "said"), [("0", "1970-01-01T00:00:00Z"), ("1764090000", "2025-11-25T17:00:00Z")])
def test_a_reproducible_build_sets_the_date(monkeypatch: pytest.MonkeyPatch, epoch: str, said: str) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", epoch)
    assert host.now() == said


@pytest.mark.parametrize("nonsense", ["", "yesterday", "9" * 30, "-" + "9" * 30])
def test_without_one_it_is_now(monkeypatch: pytest.MonkeyPatch, nonsense: str) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", nonsense)
    said = datetime.strptime(host.now(), "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    assert abs((datetime.now(UTC) - said).total_seconds()) < 60
