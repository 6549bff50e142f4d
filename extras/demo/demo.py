"""Serve a page on which to draw a digit and see its probabilities: python extras/demo/demo.py

The page is served on 127.0.0.1 only. Drawings are converted and classified by the same code as the
files given to tools/predict.py. Through a forwarded port, the browser asks for another address,
which --allow names: python extras/demo/demo.py --allow localhost:9000
"""

import argparse
import errno
import json
import sys
from collections.abc import Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))

from _tool import ROOT

import torch
from predict import read_images

from mnist_pipeline.common.errors import UserError, run_script
from mnist_pipeline.handwriting.decode import PictureError
from mnist_pipeline.model.files import ModelSpec, load_model
from mnist_pipeline.model.inference import Classifier
from mnist_pipeline.model.losses import LOSSES

PAGE = Path(__file__).with_name("demo.html")
HOST = "127.0.0.1"
MAX_BYTES = 1 << 20  # per drawing; those of the page have about 10,000
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'"
)


class Demo(ThreadingHTTPServer):
    """HTTP server of the page and of the predictions."""

    daemon_threads = True

    def __init__(
        self, port: int, classifier: Classifier, spec: ModelSpec, allowed: Sequence[str] = ()
    ) -> None:
        super().__init__((HOST, port), Handler)
        self.classifier = classifier
        self.spec = spec
        self.hosts = {f"{name}:{self.server_port}" for name in (HOST, "localhost")} | set(allowed)

    def handle_error(self, request: Any, client_address: object) -> None:
        """Report an error, but not that the browser has closed its connection."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)

    def answer(self, drawing: bytes) -> dict[str, object]:
        """For each digit, the probabilities and the 28 × 28 image that the model was given."""
        images = read_images(BytesIO(drawing), self.spec, "the drawing")
        with torch.no_grad():
            rows = self.classifier(torch.from_numpy(images)).tolist()
        digits = [
            {"probabilities": row, "image": image[0].tolist()}
            for row, image in zip(rows, images, strict=True)
        ]
        return {"classes": self.spec.classes, "digits": digits}


class Handler(BaseHTTPRequestHandler):
    """GET / returns the page; POST /predict takes a picture and returns JSON."""

    server: Demo
    timeout = 10  # seconds until a silent connection is closed

    def do_GET(self) -> None:
        """Send the page."""
        if not self._is_ours():
            self._refuse()
        elif self.path != "/":
            self._send(HTTPStatus.NOT_FOUND, {"error": "not found"})
        else:
            self._send(HTTPStatus.OK, PAGE.read_bytes())

    def do_POST(self) -> None:
        """Classify a drawing."""
        length = self.headers.get("Content-Length", "")
        if not self._is_ours():
            self._refuse()
        elif self.path != "/predict":
            self._send(HTTPStatus.NOT_FOUND, {"error": "not found"})
        elif not (length.isascii() and length.isdigit()):
            self._send(HTTPStatus.LENGTH_REQUIRED, {"error": "no Content-Length"})
        elif len(length) > 9 or int(length) > MAX_BYTES:
            # Read some of it first, or the sender sees a broken pipe instead of the answer.
            self.rfile.read(min(int(length), 4 * MAX_BYTES))
            self._send(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, {"error": f"over {MAX_BYTES} bytes"})
        else:
            try:
                self._send(HTTPStatus.OK, self.server.answer(self.rfile.read(int(length))))
            except PictureError as error:
                self._send(HTTPStatus.UNPROCESSABLE_ENTITY, {"error": str(error)})

    def _is_ours(self) -> bool:
        """Whether the request is for this machine and, if it comes from a page, from ours.

        Refuses pages of other sites, also under a host name that they point at 127.0.0.1.
        """
        origin = self.headers.get("Origin")
        origins = {
            None,
            *(f"{s}://{host}" for s in ("http", "https") for host in self.server.hosts),
        }
        return self.headers.get("Host") in self.server.hosts and origin in origins

    def _refuse(self) -> None:
        """Say which addresses are served; an address from the request is not repeated."""
        hosts = ", ".join(sorted(self.server.hosts))
        hint = "make demo ALLOW=HOST:PORT, or the option --allow HOST:PORT, adds one"
        self._send(HTTPStatus.FORBIDDEN, {"error": f"this page is served at {hosts}; {hint}"})

    def _send(self, status: HTTPStatus, content: bytes | dict[str, object]) -> None:
        is_page = isinstance(content, bytes)
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/html" if is_page else "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Do not log requests."""


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description="Draw a digit, see its probabilities.")
    parser.add_argument("--port", type=int, default=8028, help="0 picks a free one; default: 8028")
    parser.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="HOST:PORT",
        help="another address at which the browser may ask, as of a forwarded port",
    )
    parser.add_argument("--model", type=Path, default=ROOT / "models/model.safetensors")
    arguments = parser.parse_args()
    port = arguments.port
    model, spec = load_model(arguments.model)
    if spec.picture != "glyph":
        raise UserError(
            f"{arguments.model}: found a model of photos, expected one of glyphs, which can be"
            " drawn; classify photos with: python tools/predict.py PICTURE"
        )
    try:
        server = Demo(port, Classifier(model, LOSSES[spec.loss]()).eval(), spec, arguments.allow)
    except (OSError, OverflowError) as error:
        in_use = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        problem = "in use by another program" if in_use else str(error)
        raise UserError(f"port {port}: {problem}; choose another: make demo PORT=8029") from None
    print(f"Draw at http://{HOST}:{server.server_port} (Ctrl-C stops the server)")
    with server:
        server.serve_forever()


if __name__ == "__main__":
    run_script(main)
