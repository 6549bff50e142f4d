"""The demo, drawn on by mouse in a real Chromium, and asked by those who may not."""

import http.client
import json
import re
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page

from mnist_pipeline.model.files import load_model, save_model
from tests.browser import chromium
from tests.conftest import ROOT

pytestmark = pytest.mark.browser

Points = list[tuple[float, float]]

# Where the pen goes, in parts of the page's square.
TURN = np.linspace(-np.pi / 2, 3 * np.pi / 2, 16)
DIGITS: dict[str, Points] = {
    "1": [(0.54, 0.15), (0.46, 0.85)],
    "0": [(0.5 + 0.22 * np.cos(angle), 0.5 + 0.32 * np.sin(angle)) for angle in TURN],
    "7": [(0.28, 0.2), (0.72, 0.2), (0.5, 0.52), (0.42, 0.85)],
}


FORWARDED = "localhost:9000"


@pytest.fixture(scope="module")
def address(model_file: Path) -> Iterator[str]:
    """The host and port of a running demo."""
    command = [sys.executable, str(ROOT / "extras/demo/demo.py"), "--port", "0"]
    command += ["--allow", FORWARDED, "--model", str(model_file)]
    demo = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert demo.stdout is not None
    said = demo.stdout.readline()
    found = re.search(r"http://(127\.0\.0\.1:\d+) ", said)
    assert found, said
    yield found[1]
    demo.send_signal(signal.SIGINT)
    assert demo.communicate(timeout=300)[0] == "interrupted\n"


@pytest.fixture(scope="module")
def page(address: str) -> Iterator[Page]:
    with chromium() as browser:
        page = browser.new_page()
        page.goto(f"http://{address}")
        yield page


def draw(page: Page, *strokes: Points) -> str:
    """Clear the page, draw by mouse, and return the answer."""
    page.click("#clear")
    assert page.inner_text("#answer").startswith("Draw with")
    box = page.locator("#pad").bounding_box()
    assert box
    for points in strokes:
        places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
        page.mouse.move(*places[0])
        page.mouse.down()
        for place in places[1:]:
            page.mouse.move(*place, steps=3)
        page.mouse.up()
    # A part of a drawing may be answered first, and may be answered the same.
    page.wait_for_selector('#answer[aria-busy="false"]')
    return page.inner_text("#answer")


@pytest.mark.parametrize("digit", DIGITS)
def test_a_digit_drawn_by_mouse_is_answered(mnist_mirror: str, page: Page, digit: str) -> None:
    assert draw(page, DIGITS[digit])[0] == digit
    rows = page.locator("#bars li").all_inner_texts()
    assert [row.split()[0] for row in rows] == list("0123456789")
    assert sum(float(row.split()[1].rstrip("%")) for row in rows) == pytest.approx(100, abs=0.6)
    seen = page.evaluate(
        "Array.from(document.getElementById('seen').getContext('2d')"
        ".getImageData(0, 0, 28, 28).data).filter((_, i) => i % 4 === 0)"
    )
    rows_of_ink = np.flatnonzero(np.reshape(seen, (28, 28)).any(1))
    assert np.ptp(rows_of_ink) + 1 == 20, "prepared in MNIST's box"


def test_a_box_around_the_digit_is_left_out(mnist_mirror: str, page: Page) -> None:
    square = [(0.06, 0.06), (0.94, 0.06), (0.94, 0.94), (0.06, 0.94), (0.06, 0.06)]
    assert draw(page, square, DIGITS["7"])[0] == "7"


def test_two_digits_are_answered_from_left_to_right(mnist_mirror: str, page: Page) -> None:
    left, right = (
        [(x / 2 + shift, y) for x, y in DIGITS[digit]] for digit, shift in (("7", 0), ("0", 0.5))
    )
    answer = draw(page, left, right)
    assert re.fullmatch(r"2 digits: 7 \(.*%\), 0 \(.*%\)", answer)
    assert len(page.locator("#bars li").all()) == 20
    assert page.evaluate("document.getElementById('seen').width") == 56


def ask(
    address: str, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
) -> tuple[int, str]:
    host, port = address.split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=120)
    connection.request(method, path, body, headers or {})
    response = connection.getresponse()
    return response.status, response.read().decode()


def test_only_this_machine_and_its_own_page_may_ask(address: str) -> None:
    assert ask(address, "GET", "/")[0] == 200
    own = f"http://localhost:{address.split(':')[1]}"
    allowed = {"Host": own.removeprefix("http://"), "Origin": own}
    assert ask(address, "GET", "/", headers=allowed)[0] == 200
    for scheme in ("http", "https"):
        allowed = {"Host": FORWARDED, "Origin": f"{scheme}://{FORWARDED}"}
        assert ask(address, "GET", "/", headers=allowed)[0] == 200
    for headers in ({"Host": "rebound.example.org"}, {"Origin": "http://example.org"}):
        for method, path in (("GET", "/"), ("POST", "/predict")):
            status, answer = ask(address, method, path, headers=headers)
            assert status == 403
            assert "--allow HOST:PORT" in answer
    assert ask(address, "GET", "/../params.yaml")[0] == 404


def test_an_unusable_drawing_is_refused_with_a_reason(address: str, tmp_path: Path) -> None:
    Image.new("L", (40, 40)).save(tmp_path / "empty.png")
    for body, status, said in (
        (b"GIF89a", 422, "not a picture"),
        (b"", 422, "empty file"),
        ((tmp_path / "empty.png").read_bytes(), 422, "a single colour"),
        (bytes((1 << 20) + 1), 413, "over 1048576 bytes"),
    ):
        found, answer = ask(address, "POST", "/predict", body)
        assert (found, said in json.loads(answer)["error"]) == (status, True)


@pytest.mark.parametrize(
    "request_sent", [b"", b"GET / HTTP/1.1\r\n", b"POST /predict HTTP/1.1\r\n"]
)
def test_a_connection_closed_by_the_browser_is_no_error(address: str, request_sent: bytes) -> None:
    """The fixture expects that the demo has printed nothing."""
    host, port = address.split(":")
    with socket.create_connection((host, int(port)), timeout=120) as connection:
        connection.sendall(request_sent)
        reset = struct.pack("ii", 1, 0)  # closed at once, with a reset
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
    assert ask(address, "GET", "/")[0] == 200


def test_a_port_in_use_is_named(address: str, model_file: Path) -> None:
    port = address.split(":")[1]
    command = [sys.executable, str(ROOT / "extras/demo/demo.py"), "--port", port]
    command += ["--model", str(model_file)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: port {port}: in use by another program")
    assert "make demo PORT=8029" in done.stderr


def test_a_model_of_photos_is_refused(model_file: Path, tmp_path: Path) -> None:
    model, spec = load_model(model_file)
    save_model(tmp_path / "photos.safetensors", model, replace(spec, picture="photo"), {})
    command = [sys.executable, str(ROOT / "extras/demo/demo.py"), "--port", "0"]
    command += ["--model", str(tmp_path / "photos.safetensors")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"error: .*: found a model of photos, expected .*\n", done.stderr)
