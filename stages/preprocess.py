"""Split the raw files into train, validation and test: data/raw → data/processed."""

from _stage import ROOT

from mnist_pipeline.common.errors import run
from mnist_pipeline.common.params import PreprocessParams, read_params
from mnist_pipeline.splits.write import read_raw, write_splits


def main() -> None:
    """Read params.yaml and data/raw, write data/processed."""
    params = read_params(ROOT / "params.yaml", PreprocessParams)
    raw = read_raw(ROOT / "data/raw")
    counts = write_splits(raw, params.validation_fraction, ROOT / "data/processed")
    splits = ", ".join(f"{count} {name}" for name, count in counts.items())
    print(f"{raw.name}: {splits} images of {len(raw.classes)} classes, in data/processed")


if __name__ == "__main__":
    run(main)
