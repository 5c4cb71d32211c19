"""The other sides of all sinks, in one process: each takes what it is sent, acknowledges it, and keeps nothing.

    python benchmarks/scripts/takers.py PORT_OF_FLUENTD PORT_OF_HTTP
"""

import contextlib
import gzip
import http.server
import json
import socket
import socketserver
import sys
import threading

import msgspec


class Fluentd(socketserver.BaseRequestHandler):
    """Acknowledge each message of the forward protocol."""

    def handle(self) -> None:
        """Take messages until the connection ends, however it does."""
        with contextlib.suppress(ConnectionError):
            self.take_messages()

    def take_messages(self) -> None:
        """Take messages until the connection closes."""
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        buffer = b""
        while part := self.request.recv(1 << 20):
            buffer += part
            try:
                message = msgspec.msgpack.decode(buffer)
            except msgspec.DecodeError:
                continue
            buffer = b""
            self.request.sendall(msgspec.msgpack.encode({"ack": message[2]["chunk"]}))


class Http(http.server.BaseHTTPRequestHandler):
    """Answer as Elasticsearch, a collector of OpenTelemetry, Azure Monitor and CloudWatch do if all is well."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Take one request."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        body = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
        told = b""
        if self.path.startswith("/_bulk"):
            items = [{"create": {"status": 201}}] * (body.count(b"\n") // 2)
            told = json.dumps({"errors": False, "items": items}).encode()
        elif self.path.startswith("/v2"):
            count = len(json.loads(body))
            told = json.dumps({"itemsReceived": count, "itemsAccepted": count, "errors": []}).encode()
        self.send_response(200)
        if self.headers.get("Smithy-Protocol"):
            told = b"\xbf\xff"  # an empty map in CBOR
            self.send_header("Smithy-Protocol", self.headers["Smithy-Protocol"])
        self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)

    def handle(self) -> None:
        """Take requests until the connection ends, however it does."""
        with contextlib.suppress(ConnectionError):
            super().handle()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


if __name__ == "__main__":
    socketserver.ThreadingTCPServer.allow_reuse_address = True
    fluentd = socketserver.ThreadingTCPServer(("127.0.0.1", int(sys.argv[1])), Fluentd)
    threading.Thread(target=fluentd.serve_forever, daemon=True).start()
    http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Http).serve_forever()
