"""What tests of processes share: a port that is free, and waiting for what comes."""

import socket
import time
from collections.abc import Callable
from typing import Any


def find_port() -> int:
    """Return a port of this machine at which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def is_listening(port: int) -> bool:
    """Tell whether something listens at `port` of this machine."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_until(is_so: Callable[[], Any], what: str = "what is waited for", seconds: float = 60.0) -> None:
    """Return when `is_so`; fail if `what` does not come."""
    began = time.monotonic()
    while not is_so():
        assert time.monotonic() - began < seconds, f"never: {what}"
        time.sleep(0.02)
