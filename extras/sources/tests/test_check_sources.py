"""The check of each source by itself, against a server on 127.0.0.1."""

import re
import sys
from hashlib import md5

import pytest
from torchvision import datasets

from extras.sources import check_sources
from tests.mirror import serve

FILES = {f"{name}.gz": name.encode() for name in ("images", "labels", "test-images", "test-labels")}
RESOURCES = [(name, md5(content).hexdigest()) for name, content in FILES.items()]


class Check:
    """Runs the script with other mirrors of MNIST, and a good one for each other dataset."""

    def __init__(self, patch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.patch, self.capsys = patch, capsys

    def __call__(self, url: str, mirrors: list[str], *arguments: str) -> tuple[int, list[str]]:
        for known in (datasets.MNIST, datasets.FashionMNIST, datasets.KMNIST):
            self.patch.setattr(known, "resources", RESOURCES)
            self.patch.setattr(known, "mirrors", [f"{url}/good/"])
        files = {
            "train": [(f"{url}/good/{name}", digest) for name, digest in RESOURCES],
            "test": [],
        }
        self.patch.setattr(datasets.QMNIST, "resources", files)
        self.patch.setattr(datasets.MNIST, "mirrors", [f"{url}/{mirror}" for mirror in mirrors])
        self.patch.setattr(sys, "argv", ["check_sources.py", *arguments])
        with pytest.raises(SystemExit) as end:
            check_sources.main()
        return int(end.value.code or 0), self.capsys.readouterr().out.splitlines()


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Check:
    return Check(monkeypatch, capsys)


def test_one_source_that_fails_is_named_though_another_is_complete(check: Check) -> None:
    with serve(FILES) as mirror:
        url = mirror.url("")[:-1]
        status, lines = check(url, ["good", "404", "wrong"])
        assert status == 1
        assert lines[:3] == [
            f"mnist: complete from {url}/good",
            f"mnist: images.gz from {url}/404: answered 404 Not Found",
            f"mnist: images.gz from {url}/wrong: the MD5 of the file is wrong",
        ]
        names = ("fashion_mnist", "kmnist", "qmnist")
        assert [line.split(" from ")[0] for line in lines[3:]] == [f"{n}: complete" for n in names]
        dead = [f"{url}/404", f"{url}/wrong"]
        assert check(url, ["good", "404", "wrong"], "--may-fail", *dead) == (0, lines)


def test_each_file_of_a_source_is_fetched(check: Check) -> None:
    with serve({name: content for name, content in FILES.items() if name != "test-labels.gz"}) as m:
        status, lines = check(m.url("")[:-1], ["good"])
    assert status == 1
    assert re.fullmatch(r"mnist: test-labels\.gz from .*: answered 404 Not Found", lines[0])
