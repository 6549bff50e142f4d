"""One raw file from one source: a URL prefix or a folder."""

import os
import re
import shutil
import socket
import string
import time
from base64 import b64encode
from contextlib import suppress
from http.client import HTTPException, IncompleteRead, InvalidURL
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import SplitResult, quote, unquote_to_bytes, urlsplit
from urllib.request import Request, getproxies, proxy_bypass, urlopen

from tqdm import tqdm

from .cache import DISK_FULL, md5_of
from .folders import find_raw_file, folder_of

TIMEOUT = 10
"""Seconds without a byte after which a connection has failed."""

PATIENCE = 60
"""Seconds that a dead source may cost, with all addresses of its host and all tries."""

WAITS = (1, 2)
"""Seconds before the second and the third try, after a failure that may pass."""


class SourceError(Exception):
    """A source does not provide a file.

    `answered`: it is there and has other content, or sent an HTTP status below 500.
    """

    def __init__(self, source: str, name: str, reason: str, answered: bool) -> None:
        super().__init__(f"{name} from {shown(source)}: {reason}")
        self.answered = answered


def fetch(source: str, name: str, md5: str, path: Path) -> Path:
    """Write the archive `name` of a source to `path`, verify it, and return its path.

    If a folder has only its content, that is written, beside `path` and without .gz.
    Raises SourceError, and then leaves no archive; OSError if the disk is full.
    """
    folder = folder_of(source)
    try:
        if folder is not None:
            return _copy(source, folder, name, md5, path)
        _download(source, name, path)
        if md5_of(path) != md5:
            raise SourceError(source, name, "the MD5 of the file is wrong", answered=True)
    except SourceError:
        path.unlink(missing_ok=True)  # the next source may have the content only
        raise
    return path


def shown(source: str) -> str:
    """A source as messages name it: on one line, without a URL's user name, password and query.

    The scheme may have been forgotten; only a folder that is there is surely no URL.
    """
    hidden = source
    if not os.path.isdir(folder_of(source) or ""):  # noqa: PTH112
        # An @ may belong to a token in the query, or a ? or ; to a password.
        hidden = re.sub(r"^(\w+://|).*[?;].*@.*", r"\1***", hidden, flags=re.DOTALL)
        # Up to the last @, as a password may hold unquoted letters that end a host: / ? # @
        hidden = re.sub(r"^(\w+://|(?=[^/]*:)).*@", r"\1***@", hidden, flags=re.DOTALL)
        hidden = re.sub(
            r"^([^?;#]*://[^?;#]*[?;#]|[^?;]*[?;]).*", r"\1***", hidden, flags=re.DOTALL
        )
    return hidden if hidden.isprintable() else ascii(hidden)


def _copy(source: str, folder: str, name: str, md5: str, path: Path) -> Path:
    """Copy an archive, or its content, from a folder. Raises SourceError, OSError as `fetch`."""
    is_there = os.path.isdir(folder)  # noqa: PTH112
    try:
        if not is_there:
            raise FileNotFoundError("there is no such folder")
        found, is_unpacked = find_raw_file(Path(folder), name, md5)
        return Path(shutil.copyfile(found, path.with_suffix("") if is_unpacked else path))
    except OSError as error:
        if error.errno in DISK_FULL:
            raise
        raise SourceError(source, name, _reason(error), answered=is_there) from None


def _download(source: str, name: str, path: Path) -> None:
    """Write a file of a URL prefix to `path`. Raises SourceError, OSError as `fetch`.

    What may pass is tried again: an HTTP status of 500 and more, a connection that is silent, reset
    or closed early.
    """
    deadline = time.monotonic() + PATIENCE
    for tries, wait in enumerate((0, *WAITS), 1):
        time.sleep(wait)
        try:
            _read(source, name, path, deadline)
            break
        except (OSError, ValueError, HTTPException) as error:
            if isinstance(error, OSError) and error.errno in DISK_FULL:
                raise
            is_last = tries > len(WAITS) or time.monotonic() + WAITS[-1] > deadline
            if is_last or not _may_pass(error):
                reason = _reason(error) + f" (after {tries} tries)" * (tries > 1)
                answered = isinstance(error, HTTPError) and error.code < 500
                raise SourceError(source, name, reason, answered) from None


def _read(source: str, name: str, path: Path, deadline: float) -> None:
    """Write a file of a URL prefix to `path`, with a progress bar on a terminal.

    Raises OSError, ValueError or HTTPException.
    """
    parts = urlsplit(source)
    parts = parts._replace(path=f"{parts.path.rstrip('/')}/{name}", fragment="")
    request, timeout = _request(parts), _timeout(parts, deadline)
    with urlopen(request, timeout=timeout) as answer, path.open("wb") as file:
        length = getattr(answer, "length", None)  # FTP, to which a redirect may lead, has none
        with tqdm.wrapattr(file, "write", length, desc=name, disable=None) as written:
            shutil.copyfileobj(answer, written)
    found = path.stat().st_size
    if length and found < length:
        raise ConnectionResetError(f"the answer ended after {found} of {length} bytes")


def _timeout(parts: SplitResult, deadline: float) -> float:
    """Seconds for each address of the host that is asked, and for its answer, until the deadline.

    Raises OSError: the host is unknown, the variable that names a proxy is malformed, or the
    deadline has passed, as a name server may be slow.
    """
    is_direct = proxy_bypass(parts.netloc.rpartition("@")[2])
    proxy = "" if is_direct else getproxies().get(parts.scheme, "")
    host = _host_of_proxy(proxy, f"{parts.scheme}_proxy") if proxy else parts.hostname
    addresses = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    rest = deadline - time.monotonic()
    if rest <= 0:
        raise TimeoutError(f"no answer within {PATIENCE} seconds")
    return min(TIMEOUT, rest / (len(addresses) + 2))


def _host_of_proxy(proxy: str, variable: str) -> str:
    """The host of a proxy. Raises URLError, without the value, which may hold a password."""
    with suppress(ValueError):
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            return parts.hostname
    raise URLError(f"the variable {variable} is malformed, expected http://HOST:PORT")


def _request(parts: SplitResult) -> Request:
    """A request for a URL, whose user name and password become a header. Raises ValueError."""
    login, _, host = parts.netloc.rpartition("@")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
        raise ValueError("not a URL of a file")
    parts = parts._replace(netloc=host.encode("idna").decode())
    ascii_url = quote(parts.geturl(), safe=string.punctuation)
    # torchvision's name, as there are sites that refuse Python's
    request = Request(ascii_url, headers={"User-Agent": "pytorch/vision"})
    if login:
        user, _, password = login.partition(":")
        token = b64encode(unquote_to_bytes(f"{user}:{password}")).decode()
        request.add_unredirected_header("Authorization", f"Basic {token}")  # for this host only
    return request


def _may_pass(error: Exception) -> bool:
    """Whether another try may succeed."""
    if isinstance(error, HTTPError):
        return error.code >= 500
    passing = (ConnectionResetError, ConnectionAbortedError, BrokenPipeError, IncompleteRead)
    cause = error.reason if isinstance(error, URLError) else error
    # If a connection is not made in time, which is a URLError, the system has asked several times.
    return isinstance(cause, passing) or isinstance(error, TimeoutError)


def _reason(error: Exception) -> str:
    """Why a source failed, on one line."""
    if isinstance(error, HTTPError):
        reason = f"answered {error.code} {error.reason}"
    elif isinstance(error, ValueError | InvalidURL):  # their messages may hold a password
        reason = "expected a URL, such as https://HOST/mnist, or a folder"
    else:
        cause = getattr(error, "reason", error)  # URLError wraps what happened
        reason = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
    return " ".join(reason.split())
