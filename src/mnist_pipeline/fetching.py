"""Fetching one file from whichever of its sources has it, and verifying it."""

import gzip
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pooch
import requests
from requests.adapters import HTTPAdapter
from tqdm import tqdm
from urllib3.exceptions import HTTPError as Urllib3Error
from urllib3.util import Retry

from .errors import UserError
from .files import atomic

# A site may take this long to answer, and must then send this much; with the retries, the worst
# of them costs under a minute before the next is tried.
CONNECT_SECONDS, READ_SECONDS, RETRIES, BACKOFF = 5, 8, 2, 1
PATIENCE_SECONDS, BYTES_PER_SECOND = 20, 8192


@dataclass(frozen=True)
class RemoteFile:
    """A gzipped IDX file: its name, its MD5, and the sites that are known to have it."""

    name: str
    md5: str
    sites: tuple[str, ...]


class UnavailableError(UserError):
    """A raw file could be had from none of its sources."""


class UnreachableError(UnavailableError):
    """No source answered with the file at all: no network, or every site down."""

    exit_code = 69  # EX_UNAVAILABLE of sysexits.h


def fetch(
    file: RemoteFile, mirrors: Sequence[str], folder: Path, unreachable: set[str] | None = None
) -> Path:
    """Bring one file into `folder`, verified and unzipped, from the first source that has it.

    Sources are URL prefixes or folders: `mirrors` first, then the file's own sites; those in
    `unreachable`, which is added to, come last. Each that fails costs a warning line. Raises
    UnavailableError when all have failed.
    """
    unreachable = set() if unreachable is None else unreachable
    failures: list[SourceError] = []
    for source in sorted((*mirrors, *file.sites), key=unreachable.__contains__):
        try:
            zipped = _retrieve(file, source, folder)
        except SourceError as failure:
            failures.append(failure)
            print(f"warning: {failure}", file=sys.stderr)
            if not failure.answered:
                unreachable.add(source)
            continue
        path = folder / file.name.removesuffix(".gz")
        with gzip.open(zipped) as unzipped, atomic(path) as temporary, temporary.open("wb") as raw:
            shutil.copyfileobj(unzipped, raw, 1 << 20)
        zipped.unlink()
        return path
    answered = any(failure.answered for failure in failures)
    tried = "\n".join(f"  {failure}" for failure in failures)
    raise (UnavailableError if answered else UnreachableError)(
        f"{file.name} could be had from none of its sources:\n{tried}\n"
        "Name a mirror that has it, a URL prefix or a folder: MNIST_MIRROR=... dvc repro\n"
        "or use the embedded digits, which need no network: dvc exp run -S dataset=digits"
    )


class SourceError(Exception):
    """One source doesn't give one file; `answered` when it did give something else."""

    def __init__(self, file: RemoteFile, source: str, reason: str, answered: bool = False) -> None:
        super().__init__(f"{file.name} from {source}: {reason}")
        self.answered = answered


def _retrieve(file: RemoteFile, source: str, folder: Path) -> Path:
    """Put the zipped file into `folder`, under its name only once its checksum is right."""
    is_site = source.startswith(("http://", "https://"))
    address = f"{source.rstrip('/')}/{file.name}"

    def read_into(_url: str, target: str, _pooch: object) -> None:
        if is_site:
            _read_from_site(address, Path(target))
        else:
            try:
                content = Path(source).expanduser().joinpath(file.name).read_bytes()
            except OSError as error:
                raise SourceError(file, source, error.strerror or str(error)) from None
            Path(target).write_bytes(content)

    pooch.get_logger().setLevel("ERROR")
    try:
        return Path(
            pooch.retrieve(address, f"md5:{file.md5}", file.name, folder, downloader=read_into)
        )
    except requests.HTTPError as error:
        down = error.response is not None and error.response.status_code >= 500
        raise SourceError(file, source, f"answered {error}", answered=not down) from None
    except (requests.RequestException, Urllib3Error) as error:
        raise SourceError(file, source, _root_cause(error)) from None
    except ValueError:  # pooch found another checksum
        reason = f"not the right file (its MD5 isn't {file.md5})"
        raise SourceError(file, source, reason, answered=True) from None


def _read_from_site(address: str, target: Path) -> None:
    """Read one address, with a bar on a terminal; gives up on a site that hangs or only drips."""
    # The first retry follows at once, the second after two seconds.
    retry = Retry(
        RETRIES, connect=1, backoff_factor=BACKOFF, status_forcelist=(500, 502, 503, 504),
        raise_on_status=False, respect_retry_after_header=False,
    )  # fmt: skip
    begin = time.monotonic()
    with requests.Session() as session, target.open("wb") as file:
        session.mount("http://", HTTPAdapter(max_retries=retry))
        session.mount("https://", HTTPAdapter(max_retries=retry))
        timeout = (CONNECT_SECONDS, READ_SECONDS)
        with session.get(address, stream=True, timeout=timeout) as response:
            response.raise_for_status()
            size = int(response.headers.get("content-length", 0)) or None
            name = address.rsplit("/", 1)[1]
            with tqdm(total=size, desc=name, unit="B", unit_scale=True, disable=None) as bar:
                # read1 hands over what has come; iter_content would wait for a whole chunk of drips
                while chunk := response.raw.read1(1 << 16, decode_content=False):
                    file.write(chunk)
                    bar.update(len(chunk))
                    seconds = time.monotonic() - begin
                    if seconds > PATIENCE_SECONDS and bar.n < BYTES_PER_SECOND * seconds:
                        raise requests.Timeout(f"only {bar.n} bytes in {seconds:.0f} s")


def _root_cause(error: BaseException) -> str:
    """What went wrong in the end, without the layers of libraries around it."""
    while error.__context__ is not None:
        error = error.__context__
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
