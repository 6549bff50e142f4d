"""Raw files from good, bad and missing sources; the servers are real."""

import gzip
import hashlib
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn
from urllib.parse import quote

import numpy as np
import pytest
import torchvision
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mnist_pipeline.raw import fetch
from mnist_pipeline.raw.cache import Cache
from mnist_pipeline.raw.folders import UNPACKED
from mnist_pipeline.raw.idx import PARTS
from mnist_pipeline.raw.sources import (
    DATASETS,
    TORCHVISION,
    UnavailableError,
    UnreachableError,
    download,
    remote_files,
)

from ..idx import write_idx
from ..mirror import PASSWORD, USER, Mirror, serve

FILE_NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
ARRAYS = (
    np.zeros((20, 28, 28), np.uint8),
    np.arange(20, dtype=np.uint8) % 10,
    np.ones((10, 28, 28), np.uint8),
    np.arange(10, dtype=np.uint8),
)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Four small IDX files with MNIST's names."""
    folder = tmp_path_factory.mktemp("raw")
    for name, array in zip(FILE_NAMES, ARRAYS, strict=True):
        write_idx(folder / name, array)
    return {name: (folder / name).read_bytes() for name in FILE_NAMES}


@pytest.fixture
def archives(raw: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """The same files as .gz; make torchvision expect their checksums, and know no site."""
    zipped = {f"{name}.gz": gzip.compress(content, mtime=0) for name, content in raw.items()}
    resources = [(name, md5(content)) for name, content in zipped.items()]
    for (_, packed), content in zip(resources, raw.values(), strict=True):
        monkeypatch.setitem(UNPACKED, packed, md5(content))
    monkeypatch.setattr(torchvision.datasets.MNIST, "resources", resources)
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", [])
    monkeypatch.setattr(fetch, "TIMEOUT", 0.5)
    monkeypatch.setattr(fetch, "WAITS", (0, 0))
    return zipped


@pytest.fixture
def mirror(archives: dict[str, bytes]) -> Iterator[Mirror]:
    with serve(archives) as server:
        yield server


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def files_in(root: Path) -> dict[str, bytes]:
    folder = root / "MNIST/raw"
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def warnings(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines on standard error: no progress bars, as it is no terminal."""
    return capsys.readouterr().err.splitlines()


def refused() -> str:
    """The address of a port where nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


PASSING = ["503", "resets", "leaves", "closes", "hangs", "stalls"]
"""What goes wrong once, and not at the next request."""


@pytest.mark.parametrize(
    "manner", ["good", "redirects", "500-2", *(f"{manner}-1" for manner in PASSING)]
)
def test_a_source_that_works(
    mirror: Mirror,
    raw: dict[str, bytes],
    tmp_path: Path,
    manner: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    download("mnist", [mirror.url(manner)], tmp_path / "root")
    assert files_in(tmp_path / "root") == raw
    assert warnings(capsys) == []
    for train, length in ((True, 20), (False, 10)):
        dataset = torchvision.datasets.MNIST(tmp_path / "root", train=train, download=False)
        assert len(dataset) == length


BAD = {
    "403": "answered 403",
    "404": "answered 404",
    "500": "answered 500 Internal Server Error (after 3 tries)",
    "503-3": "answered 503 Service Unavailable (after 3 tries)",
    "hangs": "timed out (after 3 tries)",
    "stalls": "timed out (after 3 tries)",
    "resets": "(after 3 tries)",
    "leaves": "closed connection without response (after 3 tries)",
    "closes": " bytes (after 3 tries)",
    "circle": "answered 302 ",
    "longer": "MD5",
    "wrong": "MD5",
    "html": "MD5",
    "garbage": "",
}


@pytest.mark.parametrize("manner", BAD)
def test_a_bad_source_costs_one_warning_and_the_next_is_tried(
    mirror: Mirror,
    raw: dict[str, bytes],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    manner: str,
) -> None:
    download("mnist", [mirror.url(manner), mirror.url("good")], tmp_path / "root")
    assert files_in(tmp_path / "root") == raw
    assert [path.name for path in tmp_path.iterdir()] == ["root"]
    (warning,) = warnings(capsys)
    assert warning.startswith(f"warning: {FILE_NAMES[0]}.gz from {mirror.url(manner)}: ")
    assert BAD[manner] in warning
    tries = 3 if "tries" in BAD[manner] else 5 if manner == "circle" else 1
    assert mirror.requested[f"{FILE_NAMES[0]}.gz"] == tries + 1, "the next source is asked once"


def test_what_a_source_lacks_comes_from_the_next(
    mirror: Mirror, archives: dict[str, bytes], raw: dict[str, bytes], tmp_path: Path
) -> None:
    (tmp_path / "half").mkdir()
    for name in list(archives)[:2]:
        (tmp_path / "half" / name).write_bytes(archives[name])
    download("mnist", [str(tmp_path / "half"), mirror.url("good")], tmp_path / "root")
    assert files_in(tmp_path / "root") == raw
    assert mirror.requested.keys() == set(list(archives)[2:])


def test_no_source_left(mirror: Mirror, tmp_path: Path) -> None:
    tried = [refused(), str(tmp_path / "nowhere"), mirror.url("404")]
    with pytest.raises(UnavailableError) as caught:
        download("mnist", tried, tmp_path / "root")
    assert not isinstance(caught.value, UnreachableError)  # one did answer
    message = str(caught.value)
    for source, reason in zip(tried, ["refused", "no such folder", "answered 404"], strict=True):
        assert any(source in line and reason in line for line in message.splitlines())
    assert "MNIST_MIRROR=" in message
    assert "dvc exp run $(cat recipes/digits)" in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("manner", ["hangs", "closes", "503"])
def test_sources_that_do_not_answer_have_an_exit_code_of_their_own(
    mirror: Mirror, tmp_path: Path, manner: str
) -> None:
    with pytest.raises(UnreachableError) as caught:
        download("mnist", [refused(), mirror.url(manner)], tmp_path / "root")
    assert caught.value.exit_code != UnavailableError.exit_code


def test_a_folder_is_a_source(
    archives: dict[str, bytes],
    raw: dict[str, bytes],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    good, damaged = tmp_path / "a folder", tmp_path / "damaged"
    for folder, end in ((good, None), (damaged, -1)):
        folder.mkdir()
        for name, content in archives.items():
            (folder / name).write_bytes(content[:end])
    download("mnist", [str(damaged), str(good)], tmp_path / "root")
    assert files_in(tmp_path / "root") == raw
    (warning,) = warnings(capsys)
    assert "MD5" in warning


@pytest.mark.parametrize("failing", ["html", "closes", "the cache"])
def test_what_fails_leaves_no_file_beside_an_unpacked_one(
    mirror: Mirror, raw: dict[str, bytes], archives: dict[str, bytes], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, failing: str,
) -> None:  # fmt: skip
    folder, cache = tmp_path / "unpacked", tmp_path / "cache"
    folder.mkdir()
    for name, content in raw.items():
        (folder / name).write_bytes(content)
    sources = [mirror.url(failing), str(folder)]
    if failing == "the cache":
        monkeypatch.setenv("MNIST_CACHE", str(cache))
        sources = [str(folder)]
        download("mnist", sources, tmp_path / "root")  # now the cache has unpacked files
        for content in archives.values():
            (cache / md5(content)).write_bytes(b"half")
        (cache / md5(raw[FILE_NAMES[0]])).unlink()
    download("mnist", sources, tmp_path / "root")
    assert files_in(tmp_path / "root") == raw


FORMS = {
    "unpacked": "{stem}",
    "Kaggle's": "{kaggle}",
    "Kaggle's folders": "{stem}/{stem}",
    "torchvision's root": "MNIST/raw/{stem}.gz",
    "torchvision's root, unpacked": "MNIST/raw/{stem}",
    "torchvision's raw": "raw/{stem}.gz",
    "other names": "a copy of {index}",
    "a URL": "{stem}.gz",
}
"""Names that raw files have in a folder."""


@pytest.mark.parametrize("form", FORMS)
def test_a_folder_may_have_the_files_in_another_form(
    archives: dict[str, bytes], raw: dict[str, bytes], tmp_path: Path, form: str,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("MNIST_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "größe 1"
    others = {f"MNIST/raw/{stem}": b"\0\0\x08 another data set" for stem in raw}
    for index, (stem, content) in enumerate(raw.items()):
        kaggle = stem.replace("-idx", ".idx")
        name = FORMS[form].format(stem=stem, kaggle=kaggle, index=index)
        others[name] = archives[f"{stem}.gz"] if name.endswith(".gz") else content
    for name, content in others.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    source = folder.as_uri() if form == "a URL" else str(folder)
    download("mnist", [source], tmp_path / "root")
    assert files_in(tmp_path / "root") == raw
    folder.rename(tmp_path / "elsewhere")
    download("mnist", [source], tmp_path / "from the cache")
    assert files_in(tmp_path / "from the cache") == raw
    assert warnings(capsys) == []


def test_a_folder_without_the_files_lists_what_it_has(
    archives: dict[str, bytes], raw: dict[str, bytes], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    folder = tmp_path / "folder"

    def problem() -> str:
        with pytest.raises(UnavailableError) as caught:
            download("mnist", [str(folder)], tmp_path / "root")
        assert not isinstance(caught.value, UnreachableError), "no reason for the digits"
        return str(caught.value)

    folder.mkdir()
    assert f"{FILE_NAMES[0]}.gz from {folder}: no file has its MD5" in problem()
    assert "; found no files" in problem()
    (folder / "\x1b[2J").touch()
    capsys.readouterr()
    problem()
    assert warnings(capsys)[0].endswith(r"; found \x1b[2J")
    (folder / "\x1b[2J").unlink()
    for name in (*(f"MNIST/raw/{number}.png" for number in range(10)), ".hidden", FILE_NAMES[1]):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    assert f"; found {FILE_NAMES[1]}, MNIST/raw/0.png, " in problem()
    assert ", MNIST/raw/6.png and 3 more\n" in problem()
    (folder / FILE_NAMES[0]).write_bytes(raw[FILE_NAMES[0]])
    assert f"{FILE_NAMES[1]}.gz from {folder}: no file has its MD5, packed or unpack" in problem()
    monkeypatch.delitem(UNPACKED, md5(archives[f"{FILE_NAMES[0]}.gz"]))
    assert "no file has its MD5, which is known of the packed file only; found" in problem()


@pytest.mark.parametrize("dataset", TORCHVISION)
def test_the_files_of_a_dataset_are_in_the_order_of_the_parts(dataset: str) -> None:
    sites, files = remote_files(dataset)
    assert sites
    for (name, md5), part in zip(files, PARTS, strict=True):
        split, kind = part.split("-")
        assert kind in name
        assert name.removeprefix("qmnist-").startswith({"train": "train", "test": "t"}[split])
        assert len(md5) == 32


@pytest.mark.parametrize("dataset", sorted(DATASETS.keys() - TORCHVISION))
def test_a_dataset_from_elsewhere_has_no_raw_files(tmp_path: Path, dataset: str) -> None:
    download(dataset, ["nowhere"], tmp_path / "root")
    assert [path.name for path in (tmp_path / "root").iterdir()] == ["dataset.json"]


def test_what_was_verified_before_needs_no_source(
    mirror: Mirror, archives: dict[str, bytes], raw: dict[str, bytes], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    cache = tmp_path / "a cache/of mine"
    monkeypatch.setenv("MNIST_CACHE", str(cache))
    download("mnist", [mirror.url("good")], tmp_path / "first")
    assert {path.read_bytes() for path in cache.iterdir()} == set(archives.values())
    mirror.requested.clear()
    download("mnist", [mirror.url("good")], tmp_path / "second")
    assert not mirror.requested
    assert files_in(tmp_path / "second") == raw
    assert warnings(capsys) == []
    damaged, name = next(iter(cache.iterdir())), ""
    (name,) = [name for name, content in archives.items() if content == damaged.read_bytes()]
    damaged.write_bytes(b"half")
    download("mnist", [mirror.url("good")], tmp_path / "third")
    assert mirror.requested.keys() == {name}
    assert files_in(tmp_path / "third") == raw
    (warning,) = warnings(capsys)
    assert f"{damaged}: damaged, so it is fetched again" in warning
    assert damaged.read_bytes() == archives[name]


def test_a_cache_that_cannot_be_written_costs_a_warning(
    mirror: Mirror, raw: dict[str, bytes], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (tmp_path / "file").touch()
    monkeypatch.setenv("MNIST_CACHE", str(tmp_path / "file/cache"))
    download("mnist", [mirror.url("good")], tmp_path / "root")
    assert files_in(tmp_path / "root") == raw
    (warning,) = warnings(capsys)
    assert f"{tmp_path}/file/cache: Not a directory; verified files are not kept there" in warning


EXPECTED = "expected a URL, such as https://HOST/mnist, or a folder"

WRONG = {
    "~nosuchuser/mnist": "there is no such folder",
    "mnist\0": "there is no such folder",
    "ftp://127.0.0.1/mnist": EXPECTED,
    "file://host/mnist": EXPECTED,
    "file:///no%20where": "there is no such folder",
    "http:///x": EXPECTED,
    "http://[::1": EXPECTED,
    "http://exa mple/": "nowhere",
    "http://127.0.0.1:99999": EXPECTED,
    "http://127.0.0.1:0": EXPECTED,
    "http://127.0.0.1:port/": EXPECTED,
    "http://127.0.0.1\nx": "nowhere",
    f"http://{'a' * 64}/": EXPECTED,
    "http://größe/三": "nowhere",
    "HTTP://三.example:80/größe é?ß": "nowhere",
    "http://\udc80.example/": EXPECTED,
}
"""A source that cannot be, and the reason given."""


@pytest.fixture
def no_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """No name is that of a host; names are encoded as by the system."""

    def getaddrinfo(host: str, *_: object, **__: object) -> NoReturn:
        host.encode("idna")
        raise socket.gaierror(socket.EAI_NONAME, "nowhere")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setenv("no_proxy", "*")


def reason_of(source: str, capsys: pytest.CaptureFixture[str], root: Path) -> str:
    """The only warning about a source, which must be one line."""
    with pytest.raises(UnavailableError):
        download("mnist", [source], root)
    (warning,) = warnings(capsys)
    return warning


@pytest.mark.usefixtures("archives", "no_host")
@pytest.mark.parametrize("source", WRONG)
def test_a_source_that_cannot_be_is_told_in_one_line(
    source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    warning = reason_of(source, capsys, tmp_path / "root")
    name = (source if source.isprintable() else ascii(source)).replace("?ß", "?***")
    assert warning == f"warning: {FILE_NAMES[0]}.gz from {name}: {WRONG[source]}"


@pytest.mark.usefixtures("archives", "no_host")
@given(st.sampled_from(["", "http://", "https://", "http://a:b@", "~"]), st.text())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_text_is_a_source_that_fails_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], prefix: str, text: str
) -> None:
    assert reason_of(prefix + text, capsys, tmp_path / "root").startswith("warning: ")


@pytest.mark.parametrize("login", [f"{USER}:{quote(PASSWORD, safe='')}", f"{USER}:s3cret", USER])
def test_a_password_opens_a_source_and_is_in_no_message(
    mirror: Mirror, raw: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    login: str,
) -> None:  # fmt: skip
    url = mirror.url("login").replace("//", f"//{login}@")
    download("mnist", [url, mirror.url("good")], tmp_path / "root")
    assert files_in(tmp_path / "root") == raw
    reason = f"from {mirror.url('login').replace('//', '//***@')}: answered 401 Unauthorized"
    expected = [] if "%" in login else [f"warning: {FILE_NAMES[0]}.gz {reason}"]
    assert warnings(capsys) == expected


@pytest.mark.usefixtures("archives", "no_host")
@pytest.mark.parametrize(
    "source",
    [
        "http://reader:s3cret@host/mnist", "https://s3cret@host/mnist",
        "http://reader:/s3cret@host/mnist", "http://reader:s3cret#@host", "ftp://a:s3cret@host",
        "https://host/?sig=s3cret", "https://host/?sig=a@s3cret&b=/", "http://a:s3cret?s3cret@host",
        "http://reader:s3\ncret@host/", "reader:s3cret@host/mnist", "http://reader:a@s3cret@[::1",
        "host/mnist?token=s3cret", "host:80/mnist?sig=a@s3cret", "http://host/mnist;sig=a@s3cret",
    ],
)  # fmt: skip
def test_no_message_holds_a_password(
    source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UnreachableError) as caught:
        download("mnist", [source], tmp_path / "root")
    messages = capsys.readouterr().err + str(caught.value)
    assert "***" in messages
    assert "cret" not in messages


def test_a_folder_that_is_there_is_shown_in_full(tmp_path: Path) -> None:
    folder = tmp_path / "a:b@c?d;e"
    assert fetch.shown(str(folder)) != str(folder)
    folder.mkdir()
    assert fetch.shown(str(folder)) == str(folder)


def test_a_token_in_the_query_is_sent_for_every_file_and_not_shown(
    mirror: Mirror, raw: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sources = [f"{mirror.url(manner)}?sig=s3cret" for manner in ("404", "good")]
    download("mnist", sources, tmp_path / "root")
    assert files_in(tmp_path / "root") == raw
    (warning,) = warnings(capsys)
    assert warning.endswith("/404?***: answered 404 Not Found")


@pytest.mark.usefixtures("archives")
@pytest.mark.parametrize(
    "proxy", ["http://a:s3cret@host:port", "http://", "s3cret:port", "socks5://s3cret:1"]
)
def test_a_malformed_proxy_is_named_by_its_variable(
    proxy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("http_proxy", proxy)
    warning = reason_of("http://host/mnist", capsys, tmp_path / "root")
    assert "the variable http_proxy is malformed, expected http://HOST:PORT" in warning
    assert "s3cret" not in warning


def test_a_host_of_many_dead_addresses_gets_a_bounded_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Timeouts of all tries are noted instead of waited for."""
    clock = [0.0]
    address = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 1))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [address] * 20)

    def sleep(seconds: float) -> None:
        clock[0] += seconds

    time = SimpleNamespace(monotonic=lambda: clock[0], sleep=sleep)
    monkeypatch.setattr(fetch, "time", time)
    monkeypatch.setenv("no_proxy", "*")

    def urlopen(request: object, timeout: float) -> NoReturn:
        assert timeout > 0
        clock[0] += timeout * 21  # all addresses, the last of which accepts and is silent
        raise TimeoutError

    monkeypatch.setattr(fetch, "urlopen", urlopen)
    with pytest.raises(fetch.SourceError):
        fetch.fetch("http://host/mnist", "a.gz", "", tmp_path / "a.gz")
    assert 30 < clock[0] <= fetch.PATIENCE

    def getaddrinfo(*_: object, **__: object) -> list[object]:
        clock[0] += fetch.PATIENCE
        return [address]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with pytest.raises(fetch.SourceError, match=r"host/mnist: no answer within 60 seconds$"):
        fetch.fetch("http://host/mnist", "a.gz", "", tmp_path / "a.gz")


def test_the_cache_is_where_the_system_keeps_caches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Cache.of_user().folder is None, "off in tests"
    monkeypatch.delenv("MNIST_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    if sys.platform == "linux":
        assert Cache.of_user().folder == tmp_path / "mnist-pipeline/raw"
        for name in ("XDG_CACHE_HOME", "HOME"):
            monkeypatch.delenv(name)
        monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)
        assert Cache.of_user().folder is None, "no home"


def test_mnist_becomes_a_root_that_torchvision_opens(mnist_mirror: str, tmp_path: Path) -> None:
    root = tmp_path / "raw"
    root.mkdir()
    (root / "left from before").touch()
    download("mnist", [mnist_mirror], root)
    assert {path.name for path in root.iterdir()} == {"MNIST", "dataset.json"}
    contents = {f"{name}.gz": md5(content) for name, content in files_in(root).items()}
    assert contents == {name: UNPACKED[packed] for name, packed in remote_files("mnist")[1]}
    for train, length in ((True, 60000), (False, 10000)):
        assert len(torchvision.datasets.MNIST(root, train=train, download=False)) == length


def test_the_files_of_another_dataset_are_refused(
    mnist_mirror: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torchvision.datasets.KMNIST, "mirrors", [])
    with pytest.raises(UnavailableError, match="no file has its MD5"):
        download("kmnist", [mnist_mirror], tmp_path / "root")
