"""Draw a digit on a page and see what the model makes of it: python tools/demo.py

The page is served to this machine alone. A drawing comes as a PNG and is prepared and answered by
the same code as the files that tools/predict.py is given.
"""

import argparse
import errno
import json
import signal
import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))
signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during the imports: no traceback

import torch

from mnist_pipeline.errors import UserError, run_stage
from mnist_pipeline.inference import Classifier
from mnist_pipeline.losses import LOSSES
from mnist_pipeline.models import load_model
from mnist_pipeline.prepare import PictureError, prepare

PAGE = Path(__file__).with_name("demo.html")
HOST = "127.0.0.1"
MAX_BYTES = 1 << 20  # of a drawing; the page's own have some ten thousand
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'"
)


class Demo(ThreadingHTTPServer):
    """Serves the page and answers its drawings."""

    daemon_threads = True

    def __init__(self, port: int, classifier: Classifier, classes: list[str]) -> None:
        super().__init__((HOST, port), Handler)
        self.classifier = classifier
        self.classes = classes
        self.hosts = {f"{name}:{self.server_port}" for name in (HOST, "localhost")}

    def answer(self, drawing: bytes) -> dict[str, object]:
        """The probability of each class, and the 28 × 28 image that the model saw."""
        image = prepare(BytesIO(drawing), "the drawing")
        with torch.no_grad():
            probabilities = self.classifier(torch.from_numpy(image)[None, None])[0].tolist()
        return {"classes": self.classes, "probabilities": probabilities, "image": image.tolist()}


class Handler(BaseHTTPRequestHandler):
    """GET / is the page, POST /predict takes a picture and gives JSON."""

    server: Demo
    timeout = 10  # seconds that a connection may say nothing

    def do_GET(self) -> None:
        """Send the page."""
        if not self._is_ours():
            self._send(HTTPStatus.FORBIDDEN, {"error": "this page is for this machine alone"})
        elif self.path != "/":
            self._send(HTTPStatus.NOT_FOUND, {"error": "not here"})
        else:
            self._send(HTTPStatus.OK, PAGE.read_bytes())

    def do_POST(self) -> None:
        """Answer a drawing."""
        length = self.headers.get("Content-Length", "")
        if not self._is_ours():
            self._send(HTTPStatus.FORBIDDEN, {"error": "this page is for this machine alone"})
        elif self.path != "/predict":
            self._send(HTTPStatus.NOT_FOUND, {"error": "not here"})
        elif not (length.isascii() and length.isdigit()):
            self._send(HTTPStatus.LENGTH_REQUIRED, {"error": "no Content-Length"})
        elif len(length) > 9 or int(length) > MAX_BYTES:
            # Read some of it first: a sender who isn't heard sees a broken pipe, not the answer.
            self.rfile.read(min(int(length), 4 * MAX_BYTES))
            self._send(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, {"error": f"over {MAX_BYTES} bytes"})
        else:
            try:
                self._send(HTTPStatus.OK, self.server.answer(self.rfile.read(int(length))))
            except PictureError as error:
                self._send(HTTPStatus.UNPROCESSABLE_ENTITY, {"error": str(error)})

    def _is_ours(self) -> bool:
        """Whether it was asked by this machine's name, and by our own page if by any.

        Another site's page may not ask, also not under a name that it has pointed at 127.0.0.1.
        """
        origin = self.headers.get("Origin")
        origins = {None, *(f"http://{host}" for host in self.server.hosts)}
        return self.headers.get("Host") in self.server.hosts and origin in origins

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
        """No line a request."""


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description="Draw a digit and see what the model makes of it.")
    parser.add_argument("--port", type=int, default=8028, help="0 takes a free one; default: 8028")
    parser.add_argument("--model", type=Path, default=ROOT / "models/model.safetensors")
    arguments = parser.parse_args()
    port = arguments.port
    model, spec = load_model(arguments.model)
    try:
        server = Demo(port, Classifier(model, LOSSES[spec.loss]).eval(), spec.classes)
    except (OSError, OverflowError) as error:
        in_use = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        problem = "in use by another program" if in_use else str(error)
        raise UserError(f"port {port}: {problem}; choose another: --port 8029") from None
    print(f"Draw at http://{HOST}:{server.server_port} (Ctrl-C ends it)")
    with server:
        server.serve_forever()


if __name__ == "__main__":
    run_stage(main)
