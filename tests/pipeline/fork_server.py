"""Run scripts and DVC as forks of a process that has imported torch and DVC already.

Importing them takes seconds, and the tests start hundreds of processes. Where a process is only a
means, `python` and `dvc` in the environment of a test are clients of this server: each hands over
its arguments, folder, environment and streams, and ends as the fork ends. What signals or kills a
client does the same to its fork and to what that has started. Only `python SCRIPT ...`,
`python -m MODULE ...` and `dvc ...` are forks; anything else, such as `python -c`, starts as usual.
"""

import gc
import json
import os
import runpy
import selectors
import shutil
import signal
import socket
import sys
import tempfile
import traceback
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

import torch
from dvc.ui import colorama

PRELOADED = (
    "celery.app.amqp", "celery.backends.filesystem", "celery.concurrency.thread",
    "celery.fixups.django", "celery.loaders.app", "celery.worker.control", "dulwich.porcelain",
    "fsspec.implementations.dirfs", "hydra.compose", "hydra._internal.config_loader_impl",
    "kombu.pidbox", "kombu.transport.filesystem", "networkx", "omegaconf", "pandas",
    "PIL.ImageDraw", "PIL.PngImagePlugin", "pydantic.plugin._schema_validator", "pyparsing",
    "requests", "rich.json", "rich.status", "ruamel.yaml",
    "safetensors.torch", "scipy.ndimage", "scipy.stats", "shelve", "sklearn.datasets",
    "sklearn.model_selection", "torch", "torch._dynamo", "torchvision", "tqdm",
)  # fmt: skip
"""What scripts and DVC import; DVC imports most of it, and of its own, as late as it can."""
OPTIONAL = (
    "aiobotocore.session", "alembic.command", "optuna", "psycopg", "sqlalchemy.dialects.postgresql",
    "sqlalchemy.dialects.sqlite",
)  # fmt: skip
"""The same, of packages that not every environment has."""
WHOLE = ("dvc", "dvc_data", "dvc_objects", "dvc_render", "dvc_task", "scmrepo")

CLIENT = """#!{python} -IS
import json, os, signal, socket, sys
path, *arguments = sys.argv
first = arguments[0] if arguments else ""
if os.path.basename(path) != "dvc" and first != "-m" and not first.endswith(".py"):
    os.execv({python!r}, [{python!r}, *arguments])
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
request = json.dumps([os.path.abspath(path), arguments, os.getcwd(), dict(os.environ)]).encode()
socket.send_fds(server, [len(request).to_bytes(8, "little")], [0, 1, 2])
server.sendall(request)
fork = int.from_bytes(server.recv(8), "little")
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, lambda number, frame: os.killpg(fork, number))
status = int.from_bytes(server.recv(8), "little", signed=True)
if status < 0:
    signal.signal(-status, signal.SIG_DFL)
    os.kill(os.getpid(), -status)
sys.exit(status)
"""


def write_environment(folder: Path, real: Path, address: Path) -> None:
    """Make a virtual environment like a real one, in which the server at `address` is asked."""
    (folder / "bin").mkdir(parents=True)
    for path in real.glob("bin/*"):
        (folder / "bin" / path.name).symlink_to(path)
    for path in real.glob("[!b.]*"):
        (folder / path.name).symlink_to(path)
    for name in ("python", "dvc"):
        program = folder / "bin" / name
        program.unlink()
        program.write_text(CLIENT.format(python=sys.executable, address=str(address)), "utf-8")
        program.chmod(0o755)


def serve(address: str, owner: int) -> None:
    """Fork for every client, until the process `owner` has ended."""
    for module in PRELOADED:
        import_module(module)
    for module in OPTIONAL:
        with suppress(ImportError):
            import_module(module)
    for package in WHOLE:
        for found in walk_packages(import_module(package).__path__, f"{package}.", lambda _: None):
            if "__" not in found.name:  # such as __main__
                with suppress(ImportError):  # of what DVC needs on request only
                    import_module(found.name)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(64)
    clients: dict[int, socket.socket] = {}  # by the process ID of their forks
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ, "listener")
    selector.register(os.pidfd_open(owner), selectors.EVENT_READ, "owner")
    gc.freeze()  # a collection in a fork would copy all that it looks at
    gc.set_threshold(100_000)  # and a fork ends soon
    print("ready", flush=True)
    while True:
        for key, _ in selector.select():
            if key.data == "owner":
                shutil.rmtree(Path(address).parent)
                return
            if key.data == "listener":
                client, _ = listener.accept()
                if fork := start(client, [listener, *clients.values()]):
                    clients[fork] = client
                    selector.register(os.pidfd_open(fork), selectors.EVENT_READ, ("ended", fork))
                    selector.register(client, selectors.EVENT_READ, ("gone", fork))
                continue
            event, fork = key.data
            if event == "ended":
                selector.unregister(key.fileobj)
                os.close(key.fd)
                status = os.waitstatus_to_exitcode(os.waitpid(fork, 0)[1])
                client = clients.pop(fork)
                with suppress(KeyError):  # it has gone
                    selector.unregister(client)
                with suppress(OSError):
                    client.sendall(status.to_bytes(8, "little", signed=True))
                client.close()
            elif fork in clients:  # the client was killed
                selector.unregister(key.fileobj)
                kill = os.killpg if os.getpgid(fork) == fork else os.kill
                kill(fork, signal.SIGKILL)


def start(client: socket.socket, others: list[socket.socket]) -> int:
    """Read a client's request and fork; return the fork's process ID, 0 if the client is gone."""
    length, streams, _, _ = socket.recv_fds(client, 8, 3)
    if len(streams) != 3:
        client.close()
        return 0
    request = b""
    while len(request) < int.from_bytes(length, "little"):
        request += client.recv(1 << 20)
    fork = os.fork()
    if fork == 0:
        for each in others:
            each.close()
        os.setsid()  # a group of its own, as that of a client is not the server's
        with suppress(OSError):  # it has been killed, as this fork is about to be
            client.sendall(os.getpid().to_bytes(8, "little"))
        client.close()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        become(*json.loads(request))
    for stream in streams:
        os.close(stream)
    return fork


def become(program: str, arguments: list[str], folder: str, environment: dict[str, str]) -> None:
    """Be the process that a client asks for; never return."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.stdin = os.fdopen(0, encoding="utf-8")
    encoding = environment.get("PYTHONIOENCODING", "utf-8")
    sys.stdout = os.fdopen(1, "w", 1, encoding, "backslashreplace")
    sys.stderr = os.fdopen(2, "w", 1, encoding, "backslashreplace")
    colorama.init()  # DVC's imports have done so with the streams of the server
    if Path(program).name != "dvc":
        colorama.deinit()
    torch.set_num_threads(int(environment.get("OMP_NUM_THREADS", len(os.sched_getaffinity(0)))))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.executable = str(Path(program).with_name("python"))
    tempfile.tempdir = None  # the server's
    status: object = 1
    try:
        if Path(program).name == "dvc":
            from dvc.cli import main

            sys.argv = ["dvc", *arguments]
            status = main(arguments)
        else:
            status = 0
            if arguments[0] == "-m":
                sys.argv = arguments[1:]
                sys.path[0] = folder
                runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
            else:
                sys.argv = arguments
                sys.path[0] = str(Path(arguments[0]).resolve().parent)
                runpy.run_path(arguments[0], run_name="__main__")
    except SystemExit as end:
        status = end.code
        if isinstance(status, str):
            print(status, file=sys.stderr)
            status = 1
    except BaseException:
        traceback.print_exc()
        status = 1
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):
                stream.flush()
        os._exit(int(status or 0))  # type: ignore[call-overload]


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
