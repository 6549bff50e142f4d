"""Decode, convert and split the images: data/raw, or pictures → data/processed."""

from _stage import ROOT

from mnist_pipeline.common.errors import run_script
from mnist_pipeline.common.settings import read_settings
from mnist_pipeline.splits.read import PreprocessSettings, read_dataset
from mnist_pipeline.splits.write import write_splits


def main() -> None:
    """Read params.yaml and the images, write data/processed."""
    settings = read_settings(ROOT / "params.yaml", PreprocessSettings)
    dataset = read_dataset(settings, ROOT)
    counts = write_splits(dataset, settings.validation_fraction, ROOT / "data/processed")
    splits = ", ".join(f"{count} {name}" for name, count in counts.items())
    classes = len(dataset.classes)
    print(f"{dataset.name}: {splits} images of {classes} classes, in data/processed")


if __name__ == "__main__":
    run_script(main)
