"""Bodies that come at once, in pieces, too slowly or not at all, and what is kept of them."""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cd4ml.base.settings import load_settings
from cd4ml.production import bodies as module
from cd4ml.production.bodies import Bodies
from cd4ml.production.requests import RequestError
from cd4ml.production.service import ServeOptions
from cd4ml.production.serving import make_app

ROOT = Path(__file__).parents[3]


def send_parts(*parts: bytes, is_whole: bool, gap: float = 0.0) -> Callable[[], Any]:
    """Return what receives `parts`, one each `gap` seconds, and then waits for ever."""
    left = [{"type": "http.request", "body": part, "more_body": not is_whole or number < len(parts)}
            for number, part in enumerate(parts, 1)]

    async def receive() -> Mapping[str, Any]:
        await asyncio.sleep(gap if left else 60)
        return left.pop(0)

    return receive


def read_status(bodies: Bodies, receive: Callable[[], Any]) -> int:
    with pytest.raises(RequestError) as caught:
        asyncio.run(bodies.read(receive))
    assert (bodies.held, bodies.coming) == (0, {})
    return caught.value.status


def test_a_body_is_whole_however_it_comes() -> None:
    bodies = Bodies(1000, 10)
    for parts in ([b""], [b"[1, 2]"], [b"[1", b", 2]"], [b"", b"[", b"1, 2]", b""]):
        assert asyncio.run(bodies.read(send_parts(*parts, is_whole=True))) == b"".join(parts)
    assert (bodies.held, bodies.coming) == (0, {})


def test_what_stops_is_too_late_and_what_is_too_large_is_not_awaited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DROP_SECONDS", 0.1)
    assert read_status(Bodies(1000, 0.1), send_parts(is_whole=False)) == 408
    assert read_status(Bodies(1000, 0.1), send_parts(b"[1", is_whole=False)) == 408
    assert read_status(Bodies(5, 60), send_parts(b"[1, ", b"2, ", is_whole=False)) == 413


def test_what_is_too_large_is_read_and_forgotten_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_DROPPED", 30)
    taken = list[int]()

    def count(receive: Callable[[], Any]) -> Callable[[], Any]:
        async def counted() -> Mapping[str, Any]:
            message = await receive()
            taken.append(len(message["body"]))
            return message
        return counted

    for parts, read in ((3, 3), (9, 4), (1, 1)):  # ten bytes are over the limit, the rest is dropped
        taken.clear()
        assert read_status(Bodies(5, 60), count(send_parts(*[b"1" * 10] * parts, is_whole=True))) == 413
        assert taken == [10] * read


def test_a_drop_now_and_then_wins_no_time_and_bytes_do(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_status(Bodies(10**6, 0.2), send_parts(*[b"1"] * 1000, is_whole=True, gap=0.02)) == 408
    monkeypatch.setattr(module, "SLOWEST", 1000)
    body = asyncio.run(Bodies(10**6, 0.2).read(send_parts(b"1" * 60_000, b"2", is_whole=True, gap=0.15)))
    assert len(body) == 60_001  # each second of which a thousand bytes would do


def test_all_that_is_not_whole_is_bounded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_HELD", 25)
    bodies = Bodies(1000, 60)

    async def read_many() -> list[int]:
        coming = [asyncio.create_task(bodies.read(send_parts(b"1" * 10, is_whole=False))) for _ in range(5)]
        _, waiting = await asyncio.wait(coming, timeout=0.5)
        assert (len(waiting), bodies.held) == (2, 20)
        assert await bodies.read(send_parts(b"2" * 900, is_whole=True)) == b"2" * 900  # there at once, so never kept
        for one in waiting:
            one.cancel()
        ended = await asyncio.gather(*coming, return_exceptions=True)
        assert [type(one) for one in ended].count(asyncio.CancelledError) == 2  # who cancels is not told another story
        return [one.status for one in ended if isinstance(one, RequestError)]

    assert asyncio.run(read_many()) == [503] * 3
    assert (bodies.held, bodies.coming) == (0, {})


def test_at_the_end_nothing_is_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LAST_SECONDS", 0.1)
    bodies = Bodies(1000, 3600)

    async def read_to_the_end() -> list[int]:
        before = asyncio.create_task(bodies.read(send_parts(b"[1", is_whole=False)))
        await asyncio.sleep(0.01)
        bodies.end()
        after = asyncio.create_task(bodies.read(send_parts(is_whole=False)))
        ended = await asyncio.wait_for(asyncio.gather(before, after, return_exceptions=True), 60)
        return [one.status for one in ended]

    assert asyncio.run(read_to_the_end()) == [503, 503]


def test_a_stalled_request_has_no_place_is_told_so_and_its_connection_is_closed(tmp_path: Path) -> None:
    settings = replace(load_settings(ROOT), release_store=str(tmp_path), prediction_log=str(tmp_path / "log"))
    app = make_app(settings, "toy", ServeOptions(keys=("k",), body_seconds=0.3, max_rate=1.0))
    sent, running = list[dict[str, Any]](), list[int]()

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def ask(key: bytes) -> tuple[int, dict[bytes, bytes], dict[str, Any]]:
        scope = {"type": "http", "method": "POST", "path": "/predict", "headers": [(b"x-api-key", key)]}
        asked = asyncio.create_task(app(scope, send_parts(b"[1", is_whole=False), send))
        await asyncio.sleep(0.02)
        running.append(app.service.admission.running)
        await asked
        start, body = sent[-2:]
        return start["status"], dict(start["headers"]), json.loads(body["body"])

    status, headers, told = asyncio.run(ask(b"k"))
    assert (status, headers[b"connection"], told["what"]) == (408, b"close", "The body did not come in time")
    assert asyncio.run(ask(b"k"))[0] == 429  # it was counted
    assert asyncio.run(ask(b"other"))[0] == 401
    assert running == [0, 0, 0]
    app.service.close()
