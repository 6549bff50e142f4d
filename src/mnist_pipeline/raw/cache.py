"""Verified raw files in the user's cache folder, so that each is downloaded once per user.

An edit of the code, a return to a dataset, the temporary copy of a queued experiment and another
clone then need no network.
"""

import errno
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_cache_path

from ..common.files import atomic, digest

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass
class Cache:
    """Files named by their MD5 in `folder`; without one, nothing is kept or found."""

    folder: Path | None

    @classmethod
    def of_user(cls) -> "Cache":
        """The cache of this user, or the folder in MNIST_CACHE; none if "off" or without a home."""
        setting = os.environ.get("MNIST_CACHE")
        if setting == "off":
            return cls(None)
        if setting:
            return cls(Path(os.path.expanduser(setting)))  # noqa: PTH111, which raises for ~nobody
        try:
            return cls(user_cache_path("mnist-pipeline", appauthor=False) / "raw")
        except RuntimeError:  # this user has no home
            return cls(None)

    def get(self, md5: str, path: Path) -> bool:
        """Copy the file with this MD5 to `path`, if it is there and undamaged; return whether."""
        if self.folder is None:
            return False
        cached = self.folder / md5
        try:
            shutil.copyfile(cached, path)
        except FileNotFoundError:
            return False
        except OSError as error:
            if error.errno in DISK_FULL:
                raise
            path.unlink(missing_ok=True)
            self._give_up(error.strerror)
            return False
        if md5_of(path) == md5:
            return True
        path.unlink()
        print(f"warning: {cached}: damaged, so it is fetched again", file=sys.stderr)
        return False

    def put(self, md5: str, path: Path) -> None:
        """Keep a verified file. A folder that cannot be written to costs a warning."""
        if self.folder is None:
            return
        try:
            with atomic(self.folder / md5) as temporary:
                shutil.copyfile(path, temporary)
        except OSError as error:
            self._give_up(error.strerror)

    def _give_up(self, problem: str | None) -> None:
        """Warn, once, and go on without a cache."""
        print(
            f"warning: {self.folder}: {problem}; verified files are not kept there"
            " (MNIST_CACHE=FOLDER names another folder, MNIST_CACHE=off uses none)",
            file=sys.stderr,
        )
        self.folder = None


def md5_of(path: Path) -> str:
    """MD5 of a file's content in hexadecimal."""
    return digest(path, "md5")
