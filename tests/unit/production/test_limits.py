"""Files of keys that change, vanish and come back; rates at their edges."""

import os
from pathlib import Path

import pytest

from cd4ml.base.errors import SettingsError
from cd4ml.production.limits import KeyRing, RateLimit, is_loopback, read_keys


def test_keys_are_trimmed_and_loopback_needs_none() -> None:
    assert read_keys("127.9.9.9", {}) == read_keys("localhost", {}) == ()
    assert read_keys("0.0.0.0", {"CD4ML_API_KEYS": " a ,,b"}) == ("a", "b")
    assert [is_loopback(host) for host in ("::1", "::", "example.org", "10.0.0.1", "")] == [True, *[False] * 4]


def test_a_file_that_is_away_or_without_keys_changes_nothing_and_is_said_once(
        tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "keys"
    path.write_bytes(b"\n  first\r\nzweiter-schl\xc3\xbcssel\n# third\n")
    ring = KeyRing([], path, look_seconds=0)
    assert [ring.find(key) for key in (b"first", "zweiter-schlüssel".encode(), b"third")] == [0, 1, None]
    path.unlink()
    assert [ring.find(b"first") for _ in range(5)] == [0] * 5
    assert len(caplog.records) == 1
    for text, found in (("second\n", None), ("", None), ("first\n", 0), ("", 0), ("#\n\n", 0), ("second", None)):
        (tmp_path / "draft").write_text(text)
        os.replace(tmp_path / "draft", path)
        assert [ring.find(b"first") for _ in range(3)] == [found] * 3, text
        assert not ring.is_open
    assert ring.find(b"") is None
    said = [record.getMessage() for record in caplog.records]
    assert (len(said), sum("holds none" in one for one in said)) == (3, 2)  # once a spell, however long


def test_a_file_is_looked_at_now_and_then_only(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("first")
    ring = KeyRing([], path, look_seconds=1000)
    assert ring.find(b"first") == 0
    path.write_text("second")
    assert ring.find(b"first") == 0


@pytest.mark.parametrize("content", [None, b"", b"# none\n"])
def test_no_server_starts_with_a_file_without_keys(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "keys").write_bytes(content)
    with pytest.raises(SettingsError, match="file of keys"):
        KeyRing(["another"], tmp_path / "keys")


@pytest.mark.parametrize("rate", [0.25, 1, 7, 100])
def test_a_rate_is_kept_in_the_long_run_and_bursts_stay_within_a_second(rate: float) -> None:
    now = [50.0]
    limit = RateLimit(rate, lambda: now[0])
    burst = sum(not limit.take(1) for _ in range(3000))
    assert burst == max(1, rate)
    taken = 0
    for _ in range(4000):
        now[0] += 0.005
        taken += not limit.take(1)
    assert abs(taken - 20 * rate) <= 1
    wait = limit.take(1)
    now[0] += wait
    assert limit.take(1) == 0
