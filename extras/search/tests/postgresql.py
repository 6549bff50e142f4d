"""A PostgreSQL server on this machine."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.pipeline.project import free_port


def find(command: str) -> str | None:
    """Where a command of the server is; Debian keeps each version's in a folder of its own."""
    folders = [str(path) for path in Path("/usr/lib/postgresql").glob("*/bin")]
    return shutil.which(command, path=os.pathsep.join([os.environ["PATH"], *folders]))


@contextmanager
def server() -> Iterator[str]:
    """Start a server with an empty database, yield the database's URL, and end it."""
    # The server does not run as root, and its user may not enter the folders of pytest.
    user = "postgres" if os.getuid() == 0 else None
    with tempfile.TemporaryDirectory() as name:
        data = Path(name) / "data"
        data.mkdir()
        if user:
            shutil.chown(name, user)
            shutil.chown(data, user)
        owner = ("--username=digits", "--auth=trust", "--no-sync")
        subprocess.run(
            [find("initdb") or "", *owner, str(data)], user=user, check=True, capture_output=True
        )
        control = [find("pg_ctl") or "", "--wait", f"--pgdata={data}", f"--log={name}/log"]
        port = free_port()
        options = f"-p {port} -c listen_addresses=127.0.0.1 -k {name}"
        subprocess.run([*control, "-o", options, "start"], user=user, check=True, cwd="/")
        try:
            yield f"postgresql+psycopg://digits@127.0.0.1:{port}/postgres"
        finally:
            subprocess.run([*control, "--mode=immediate", "stop"], user=user, check=True, cwd="/")
