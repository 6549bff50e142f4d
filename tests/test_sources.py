"""Raw files from good, bad and missing sources; the servers are real."""

import gzip
import hashlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torchvision

from mnist_pipeline import fetching, sources
from mnist_pipeline.catalogue import TORCHVISION, class_names, constants, remote_files
from mnist_pipeline.fetching import RemoteFile, UnavailableError, UnreachableError, fetch
from mnist_pipeline.idx import read_idx
from mnist_pipeline.sources import PARTS, download

from .mirror import Mirror, serve

RAW = bytes([0, 0, 8, 1, 0, 0, 8, 0]) + np.random.default_rng(0).bytes(2048)
ZIPPED = gzip.compress(RAW, mtime=0)
FILE = RemoteFile("labels.gz", hashlib.md5(ZIPPED).hexdigest(), ())


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    """A server, and less patience than a real one is given."""
    monkeypatch.setattr(fetching, "READ_SECONDS", 0.5)
    monkeypatch.setattr(fetching, "PATIENCE_SECONDS", 0.5)
    monkeypatch.setattr(fetching, "BACKOFF", 0.01)
    with serve({"labels.gz": ZIPPED}) as server:
        yield server


def refused() -> str:
    """The address of a port where nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


@pytest.mark.parametrize("manner", ["good", "503-first", "redirects"])
def test_a_source_that_works_in_the_end(mirror: Mirror, tmp_path: Path, manner: str) -> None:
    path = fetch(FILE, [mirror.url(manner)], tmp_path)
    assert path == tmp_path / "labels"
    assert path.read_bytes() == RAW
    assert list(tmp_path.iterdir()) == [path]


BAD = {
    "403": "answered 403",
    "404": "answered 404",
    "500": "answered 500",
    "503": "answered 503",
    "hangs": "timed out",
    "drips": "only ",
    "closes": "IncompleteRead",
    "longer": "not the right file",
    "wrong": "not the right file",
    "html": "not the right file",
}


@pytest.mark.parametrize("manner", BAD)
def test_a_bad_source_costs_a_warning_and_the_next_is_tried(
    mirror: Mirror, tmp_path: Path, capsys: pytest.CaptureFixture[str], manner: str
) -> None:
    path = fetch(FILE, [mirror.url(manner), mirror.url("good")], tmp_path)
    assert path.read_bytes() == RAW
    assert list(tmp_path.iterdir()) == [path]
    (warning,) = capsys.readouterr().err.splitlines()
    assert warning.startswith(f"warning: labels.gz from {mirror.url(manner)}: ")
    assert BAD[manner] in warning


def test_no_source_left(mirror: Mirror, tmp_path: Path) -> None:
    tried = [refused(), str(tmp_path / "nowhere"), mirror.url("404")]
    with pytest.raises(UnavailableError) as caught:
        fetch(FILE, tried, tmp_path)
    assert not isinstance(caught.value, UnreachableError)  # one did answer
    message = str(caught.value)
    for source, reason in zip(tried, ["refused", "No such file", "answered 404"], strict=True):
        assert any(source in line and reason in line for line in message.splitlines())
    assert "MNIST_MIRROR=" in message
    assert "dvc exp run -S dataset=digits" in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("manner", ["hangs", "drips", "500", "503"])
def test_sources_that_never_answer_are_told_apart(
    mirror: Mirror, tmp_path: Path, manner: str
) -> None:
    with pytest.raises(UnreachableError) as caught:
        fetch(FILE, [refused(), mirror.url(manner)], tmp_path)
    assert caught.value.exit_code != UnavailableError.exit_code


def test_a_source_once_found_unreachable_comes_last(mirror: Mirror, tmp_path: Path) -> None:
    unreachable: set[str] = set()
    for _ in range(3):
        fetch(FILE, [mirror.url("hangs"), mirror.url("good")], tmp_path, unreachable).unlink()
    assert mirror.requests == {"hangs": 1 + fetching.RETRIES, "good": 3}


def test_the_worst_source_costs_under_a_minute() -> None:
    attempts = 1 + fetching.RETRIES
    hanging = attempts * (fetching.CONNECT_SECONDS + fetching.READ_SECONDS) + 2 * fetching.BACKOFF
    dripping = fetching.PATIENCE_SECONDS + fetching.READ_SECONDS
    assert max(hanging, dripping) < 60


def test_a_folder_is_a_source(tmp_path: Path) -> None:
    (tmp_path / "a folder").mkdir()
    (tmp_path / "a folder/labels.gz").write_bytes(ZIPPED)
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged/labels.gz").write_bytes(ZIPPED[:-1])
    out = tmp_path / "out"
    out.mkdir()
    fetch(FILE, [str(tmp_path / "damaged"), str(tmp_path / "a folder")], out)
    assert (out / "labels").read_bytes() == RAW


def test_a_full_disk_is_not_blamed_on_the_source(mirror: Mirror) -> None:
    if not os.path.exists("/dev/full"):  # noqa: PTH110
        pytest.skip("needs /dev/full, a device that is always full")
    with pytest.raises(OSError, match="No space left"):
        fetching._read_from_site(f"{mirror.url('good')}/labels.gz", Path("/dev/full"))


@pytest.mark.parametrize("dataset", TORCHVISION)
def test_the_catalogue_is_torchvisions(dataset: str) -> None:
    cls = getattr(torchvision.datasets, TORCHVISION[dataset])
    known = constants(TORCHVISION[dataset])
    assert (known["resources"], known["classes"]) == (cls.resources, cls.classes)
    assert known.get("mirrors", cls.mirrors) == cls.mirrors
    files = remote_files(dataset)
    assert len(files) == len(PARTS)
    for file, part in zip(files, PARTS, strict=True):
        split, kind = part.split()
        assert kind in file.name
        assert file.name.removeprefix("qmnist-").startswith({"train": "train", "test": "t"}[split])
        assert len(file.md5) == 32
        assert file.sites
    assert len(class_names(dataset)) == 10


def test_every_dataset_lies_where_torchvision_looks(tmp_path: Path) -> None:
    for dataset, name in TORCHVISION.items():
        cls = getattr(torchvision.datasets, name)
        assert cls.raw_folder.fget(type(name, (), {"root": str(tmp_path)})()) == str(
            tmp_path / sources._raw_folder(dataset)
        )


def test_the_digits_are_an_offline_dataset_of_the_same_form(digits_raw: Path) -> None:
    folder = digits_raw / "Digits/raw"
    images = read_idx(folder / "train-images-idx3-ubyte")
    assert images.shape == (1198, 28, 28)
    assert images.max() == 255
    assert not images[:, :4].any()
    assert not images[:, :, 24:].any()
    assert read_idx(folder / "t10k-labels-idx1-ubyte").shape == (599,)


def test_mnist_becomes_a_root_that_torchvision_opens(mnist_mirror: str, tmp_path: Path) -> None:
    root = tmp_path / "raw"
    root.mkdir()
    (root / "left from before").touch()
    download("mnist", [mnist_mirror], root)
    assert {path.name for path in root.iterdir()} == {"MNIST", "dataset.json"}
    assert not (tmp_path / ".raw.partial").exists()
    for train, length in ((True, 60000), (False, 10000)):
        assert len(torchvision.datasets.MNIST(root, train=train, download=False)) == length


def test_another_datasets_files_are_refused(mnist_mirror: str, tmp_path: Path) -> None:
    if mnist_mirror.startswith("http"):
        pytest.skip("needs MNIST_MIRROR to be a folder: kmnist's own sites may be in reach")
    file = remote_files("kmnist")[1]
    with pytest.raises(UnavailableError, match="not the right file"):
        fetch(RemoteFile(file.name, file.md5, ()), [mnist_mirror], tmp_path)
