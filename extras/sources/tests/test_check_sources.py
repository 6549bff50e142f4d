"""The check of each source by itself, against a server on 127.0.0.1."""

import subprocess
import sys
from hashlib import md5

from tests.conftest import ROOT
from tests.mirror import serve

FILES = {f"{name}.gz": name.encode() for name in ("images", "labels", "test-images", "test-labels")}
CHECK = """
import runpy, sys
from torchvision import datasets
url, resources, mirrors = eval(sys.argv.pop(1))
for known in (datasets.MNIST, datasets.FashionMNIST, datasets.KMNIST):
    known.resources, known.mirrors = resources, [url + "/good/"]
datasets.QMNIST.resources = {"train": [(f"{url}/good/{name}", md5) for name, md5 in resources]}
datasets.QMNIST.resources["test"] = []
datasets.MNIST.mirrors = [f"{url}/{mirror}" for mirror in mirrors]
sys.argv[0] = "extras/sources/check_sources.py"
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def check(url: str, mirrors: list[str], *arguments: str) -> tuple[int, list[str]]:
    """Run the script with these mirrors of MNIST, and a good one for each other dataset."""
    resources = [(name, md5(content).hexdigest()) for name, content in FILES.items()]
    command = [sys.executable, "-c", CHECK, repr((url, resources, mirrors)), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout.splitlines()


def test_one_source_that_fails_is_named_though_another_is_complete() -> None:
    with serve(FILES) as mirror:
        url = mirror.url("")[:-1]
        status, lines = check(url, ["good", "404", "wrong"])
        assert status == 1
        assert lines[0] == f"mnist from {url}/good: complete"
        assert lines[1].startswith(f"mnist from {url}/404: images.gz: HTTP Error 404")
        assert lines[2] == f"mnist from {url}/wrong: images.gz: File not found or corrupted."
        assert [line.split()[0] for line in lines[3:]] == ["fashion_mnist", "kmnist", "qmnist"]
        assert all(line.endswith("/good/: complete") for line in lines[3:5])
        dead = [f"{url}/404", f"{url}/wrong"]
        assert check(url, ["good", "404", "wrong"], "--may-fail", *dead) == (0, lines)


def test_each_file_of_a_source_is_fetched() -> None:
    with serve({name: content for name, content in FILES.items() if name != "test-labels.gz"}) as m:
        status, lines = check(m.url("")[:-1], ["good"])
    assert status == 1
    assert "test-labels.gz: HTTP Error 404" in lines[0]
