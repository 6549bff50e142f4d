"""A real HTTP server on 127.0.0.1 that serves files, well or badly."""

import socket
import struct
import threading
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

USER, PASSWORD = "reader", "s3cret/ä@"


class Mirror(ThreadingHTTPServer):
    """Serves `files` by name under /<manner>/; the manner says what goes wrong.

    Under /<manner>-<number>/ only the first requests of each file go wrong. Under /login/ only USER
    with PASSWORD gets files.
    """

    daemon_threads = True

    def __init__(self, files: Mapping[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = files
        self.requested: Counter[str] = Counter()
        self.closing = threading.Event()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that is killed closes its connection; that is no news."""

    def url(self, manner: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{manner}"


class Handler(BaseHTTPRequestHandler):
    server: Mirror

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        _, manner, name = self.path.partition("?")[0].split("/")
        self.server.requested[name] += 1
        content = self.server.files.get(name, b"")
        manner, _, times = manner.partition("-")
        if times and self.server.requested[name] > int(times):
            manner = "good"
        login = b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if manner == "login" and self.headers["Authorization"] != f"Basic {login}":
            manner = "401"
        if manner.isdigit() or not content:
            return self.send_error(int(manner) if manner.isdigit() else 404)
        if manner in ("redirects", "circle"):
            self.send_response(302)
            self.send_header("Location", f"/{'circle' if manner == 'circle' else 'good'}/{name}")
            return self.end_headers()
        if manner == "hangs":
            self.server.closing.wait(30)
            return None
        if manner == "resets":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            return None
        if manner == "leaves":
            return None
        if manner == "garbage":
            self.wfile.write(b"no HTTP at all\n")
            return None
        body = {"longer": content + b"more", "wrong": b"x" * len(content), "html": b"<html>"}
        sent = body.get(manner, content)
        self.send_response(200)
        self.send_header("Content-Length", str(len(sent)))
        self.end_headers()
        if manner == "closes":
            sent = sent[: len(sent) // 2]
        if manner == "stalls":
            self.wfile.write(sent[: len(sent) // 2])
            self.server.closing.wait(30)
        else:
            self.wfile.write(sent)
        return None


@contextmanager
def serve(files: Mapping[str, bytes]) -> Iterator[Mirror]:
    mirror = Mirror(files)
    thread = threading.Thread(target=mirror.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield mirror
    finally:
        mirror.closing.set()
        mirror.shutdown()
        mirror.server_close()
