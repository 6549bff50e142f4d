"""Measure preprocess and an epoch of the default training on more images than memory should hold.

`python benchmarks/large.py` makes 6 million images by augmenting MNIST's, in a scratch clone: that
takes 10 GB of disk and half an hour on two CPU cores; `--images 100000` is a try. Linux only: it
reads /proc.

The rows of the table are of the train stage as it is, which by its own checksum has brought the
file into the page cache: a whole epoch, and then, each stopped after a minute, `cold`, the file put
out of the page cache when the epoch begins, and `little memory`, the file put out of it again
whenever 512 MiB have been read, as on a machine that has no more room for it. Besides the images a
second there are those in a second of the process's own time on the processor, which other work on
the machine disturbs less and waiting for the disk doesn't count in. The last line compares the
mapped file with a copy of it in memory, in turns within one process.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from threading import Event, Thread

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

import numpy as np
import torch

from benchmarks.run import Clone, machine, redescribe
from mnist_pipeline.augmentation import Affine
from mnist_pipeline.data import ImageDataset, load_split, make_loader
from mnist_pipeline.idx import read_idx
from mnist_pipeline.losses import LOSSES
from mnist_pipeline.models import ModelSpec, build_model
from mnist_pipeline.optimizers import build_optimizer
from mnist_pipeline.params import TrainParams, read_params
from mnist_pipeline.tensorfiles import PIECE

STAGE = "import runpy; runpy.run_path('stages/train.py', run_name='__main__')"
LITTLE_MEMORY = """
import mmap, os, pathlib, threading, time
class Forgetful(mmap.mmap):
    read = 0
    def __new__(cls, descriptor, *arguments):
        self, file = super().__new__(cls, descriptor, *arguments), os.dup(descriptor)
        def forget():
            while True:
                io = pathlib.Path("/proc/self/io").read_text()
                read = int(io.split("read_bytes: ")[1].split()[0])
                if read > self.read + 2**29:
                    self.madvise(mmap.MADV_DONTNEED)
                    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
                    self.read = read
                time.sleep(0.01)
        threading.Thread(target=forget, daemon=True).start()
        return self
mmap.mmap = Forgetful
"""


@dataclass
class Run:
    """What was seen of a stage."""

    seconds: float
    peak: float  # of anonymous resident memory, in MiB
    images: int = 0  # trained on
    rate: float = 0.0  # images/s
    cpu_rate: float = 0.0  # images in a second of CPU time


def run(clone: Clone, *command: str, cold: bool = False, limit: float = 1e9) -> Run:
    """Run Python in the clone, watched; a training is stopped after `limit` seconds of it."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *command], cwd=clone.folder, stdout=subprocess.PIPE, text=True
    )
    ended, peaks = Event(), [0.0]

    def watch() -> None:
        while not ended.wait(0.02):
            found = re.search(r"RssAnon:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text())
            peaks[0] = max(peaks[0], int(found[1]) / 1024 if found else 0)

    watcher = Thread(target=watch)
    watcher.start()
    seen = Run(0, 0)
    stopped = False
    assert process.stdout
    for line in process.stdout:
        if line.startswith("Training on"):
            if cold:
                forget(clone)
            began, began_cpu = time.perf_counter(), cpu_seconds(process.pid)
        if found := re.match(r"Epoch .*, Step \[(\d+)/", line):
            taken = time.perf_counter() - began
            seen.images = 64 * int(found[1])  # the default batch_size
            seen.rate = seen.images / taken
            seen.cpu_rate = seen.images / (cpu_seconds(process.pid) - began_cpu)
            if taken > limit:
                stopped = True
                process.kill()
                break
    ended.set()
    watcher.join()
    if process.wait() and not stopped:
        raise SystemExit(f"error: {command} failed")
    seen.seconds, seen.peak = time.perf_counter() - start, peaks[0]
    return seen


def cpu_seconds(process: int) -> float:
    """What a process has used so far, in all its threads."""
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def forget(clone: Clone) -> None:
    """Put the splits out of the page cache."""
    for path in (clone.folder / "data/processed").iterdir():
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def make_raw(clone: Clone, count: int) -> None:
    """Replace the raw training images by `count` augmented ones, a piece at a time."""
    raw = clone.folder / "data/raw/MNIST/raw"
    paths = [raw / name for name in ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")]
    images, labels = (read_idx(path) for path in paths)
    affine = Affine(rotation=10, translation=2, scale=0.1, shear=5)
    generator = torch.Generator().manual_seed(0)
    for path in paths:
        path.unlink()  # what is mapped stays
    with paths[0].open("wb") as image_file, paths[1].open("wb") as label_file:
        image_file.write(bytes([0, 0, 8, 3]) + np.array([count, 28, 28], ">u4").tobytes())
        label_file.write(bytes([0, 0, 8, 1]) + np.array([count], ">u4").tobytes())
        for begin in range(0, count, PIECE):
            indices = np.arange(begin, min(begin + PIECE, count)) % len(images)
            draws = torch.rand((affine.draws, len(indices)), generator=generator)
            altered = affine(torch.from_numpy(images[indices][:, np.newaxis]), draws)
            image_file.write(altered.round().to(torch.uint8).numpy().data)
            label_file.write(labels[indices].data)
    description = clone.folder / "data/raw/dataset.json"
    redescribe(clone, description, description.read_text())


def in_turns(clone: Clone) -> str:
    """Training steps on batches from the mapped file and from memory, some 250 of each in turn."""
    mapped, header = load_split(clone.folder / "data/processed", "train")
    memory = ImageDataset(mapped.data.clone(), mapped.labels.clone())
    params = read_params(clone.folder / "params.yaml", TrainParams)
    spec = ModelSpec("mlp", params.chosen("model"), header["classes"], 0.5, 0.5, "float32",
                     "cross_entropy", header["dataset"])  # fmt: skip
    model = build_model(spec)
    optimizer = build_optimizer("sgd", params.chosen("optimizer"), model.parameters())
    loaders = [
        iter(make_loader(data, 64, True, seed)) for seed, data in enumerate((mapped, memory))
    ]
    ratios, rates = [], []
    steps = min(250, len(mapped) // 64 // 4)
    for _ in range(min(100, len(mapped) // 64 // steps)):
        seconds = []
        for batches in loaders:
            start = time.perf_counter()
            for images, labels in islice(batches, steps):
                optimizer.zero_grad()
                LOSSES["cross_entropy"].mean(model(images), labels).backward()
                optimizer.step()
            seconds.append(time.perf_counter() - start)
        ratios.append(seconds[1] / seconds[0])
        rates.append(steps * 64 / seconds[0])
    low, median, high = statistics.quantiles(ratios, n=4)
    return (
        f"mapped: {statistics.median(rates):,.0f} images/s; mapped / in memory: {median:.3f},"
        f" quartiles {low:.3f} and {high:.3f}, {len(ratios)} turns"
    )


def row(name: str, seen: Run) -> None:
    """Print a line of the table."""
    rates = f"{seen.rate:>12,.0f} {seen.cpu_rate:>14,.0f}" if seen.rate else " " * 27
    print(f"{name:36} {seen.seconds:>9.1f} {rates} {seen.peak:>9.0f}", flush=True)


def main() -> None:
    """Make the images, run the stages, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--images", type=int, default=6_000_000)
    parser.add_argument("--folder", help="where there is room, if not in the system's /tmp")
    arguments = parser.parse_args()
    print(machine(), flush=True)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        clone = Clone(Path(folder) / "clone")
        params = clone.folder / "params.yaml"
        default = re.sub(r"^epochs: \d+", "epochs: 1", params.read_text(), flags=re.MULTILINE)
        params.write_text(default)
        clone.run(sys.executable, "stages/download.py")
        start = time.perf_counter()
        make_raw(clone, arguments.images)
        print(f"{arguments.images} images made in {time.perf_counter() - start:.0f} s", flush=True)
        print(
            f"{'':36} {'seconds':>9} {'images/s':>12} {'/ CPU second':>14} {'MiB':>9}", flush=True
        )
        row("preprocess", run(clone, "stages/preprocess.py"))
        (clone.folder / "data/raw/MNIST/raw/train-images-idx3-ubyte").unlink()  # room
        row("train, mapped, the whole epoch", run(clone, "stages/train.py"))
        for name, code in (("cold", STAGE), ("little memory", LITTLE_MEMORY + STAGE)):
            for shuffle in ("true", "blocks", "false"):
                setting = re.sub(
                    r"^shuffle: \w+", f"shuffle: {shuffle}", default, flags=re.MULTILINE
                )
                params.write_text(setting)
                seen = run(clone, "-c", code, cold=True, limit=60)
                row(f"train, {name}, shuffle: {shuffle}", seen)
        print(in_turns(clone))


if __name__ == "__main__":
    main()
