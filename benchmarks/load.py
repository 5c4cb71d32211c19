"""Ask a server over HTTP/1.1 on many connections at once, with other rows each time, and time each answer.

    python benchmarks/load.py ADDRESS PATH BODIES CONNECTIONS SECONDS

BODIES is a file with a request's body a line, LOAD_KEY in the environment the API key. Prints a JSON object: requests a
second, quantiles of the time of an answer [s], and how many were refused. It runs in a process of its own, so that it
shares no core with what it measures.
"""

import asyncio
import functools
import json
import os
import statistics
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit


class Client(asyncio.Protocol):
    """Send one request after another on a connection until `ends`; each answer must have a length."""

    def __init__(self, requests: list[bytes], first: int, ends: float, times: list[float]):
        self.requests, self.place, self.ends, self.times = requests, first, ends, times
        self.refused, self.buffer, self.began = 0, b"", 0.0
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.ask()

    def ask(self) -> None:
        """Send the next request."""
        self.place = (self.place + 1) % len(self.requests)
        self.began = time.perf_counter()
        self.transport.write(self.requests[self.place])  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self.buffer = self.buffer + data if self.buffer else data
        head = self.buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        lower = self.buffer[:head].lower()
        at = lower.find(b"content-length:") + 15
        if len(self.buffer) < head + 4 + int(lower[at:].split(b"\r\n", 1)[0]):
            return
        now = time.perf_counter()
        self.times.append(now - self.began)
        self.refused += self.buffer[9:12] != b"200"
        self.buffer = b""
        if now < self.ends:
            self.ask()
        else:
            self.transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(error) if error else self.done.set_result(None)


async def load_server(url: str, bodies: list[bytes], connections: int, seconds: float) -> dict[str, float]:
    """Return what came of asking `url` on so many connections for so many seconds."""
    place = urlsplit(url)
    head = f"POST {place.path} HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Type: application/json\r\n"
    head += f"X-API-Key: {os.environ.get('LOAD_KEY', '')}\r\nContent-Length: "
    requests = [head.encode() + str(len(body)).encode() + b"\r\n\r\n" + body for body in bodies]
    loop, times, began = asyncio.get_running_loop(), list[float](), time.perf_counter()

    def make_client(number: int) -> Client:
        return Client(requests, number * len(requests) // connections, began + seconds, times)

    clients = [(await loop.create_connection(functools.partial(make_client, i), place.hostname, place.port))[1]
               for i in range(connections)]
    await asyncio.gather(*(client.done for client in clients))
    spent, cuts = time.perf_counter() - began, statistics.quantiles(times, n=100, method="inclusive")
    return {"rate": len(times) / spent, "p50": cuts[49], "p99": cuts[98], "requests": len(times),
            "refused": sum(client.refused for client in clients)}


if __name__ == "__main__":
    address, path, bodies, connections, seconds = sys.argv[1:]
    try:
        import uvloop

        run = uvloop.run
    except ImportError:
        run = asyncio.run
    told = run(load_server(address + path, Path(bodies).read_bytes().splitlines(), int(connections), float(seconds)))
    print(json.dumps(told))
