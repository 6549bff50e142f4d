"""Classify pictures: python tools/predict.py seven.png photo.jpg

A line per picture; if a model of digits is given several digits side by side, a line for each.
"""

import argparse
import json
import sys
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from _tool import ROOT

import numpy as np
import torch

from mnist_pipeline.common.errors import printable, run_script
from mnist_pipeline.handwriting.decode import PictureError
from mnist_pipeline.handwriting.glyphs import read_glyph, read_glyphs
from mnist_pipeline.handwriting.photos import read_photo
from mnist_pipeline.model.files import ModelSpec, load_model
from mnist_pipeline.model.inference import Classifier
from mnist_pipeline.model.losses import LOSSES

SHADES = " ░▒▓█"


def main() -> None:
    """Classify every readable picture; exit code 1 if there was an unreadable one."""
    arguments = parse()
    model, spec = load_model(arguments.model)
    classifier = Classifier(model, LOSSES[spec.loss]()).eval()
    failed = False
    for name in arguments.images:
        file = BytesIO(sys.stdin.buffer.read()) if name == "-" else Path(name)
        try:
            images = read_images(file, spec, name)
        except PictureError as error:
            failed = True
            if arguments.json:
                print(json.dumps({"file": name, "error": str(error)}))
            else:
                print(f"error: {error}", file=sys.stderr)
            continue
        with torch.no_grad():
            rows = classifier(torch.from_numpy(images)).numpy()
        answers = [describe(name, probabilities, spec.classes) for probabilities in rows]
        if len(answers) > 1 and not arguments.json:
            print(f"{printable(name)}: {len(answers)} digits, from left to right:")
        label = f"{printable(name)}: " if len(answers) == 1 else "  "
        for number, (answer, image) in enumerate(zip(answers, images, strict=True), 1):
            if arguments.json:
                several = {"digit": number, "digits": len(answers)} if len(answers) > 1 else {}
                shown = {"image": image.squeeze().tolist()} if arguments.show else {}
                print(json.dumps(answer | several | shown))
            else:
                print(label + sentence(answer))
                if arguments.show:
                    print(drawing(image))
    if failed:
        sys.exit(1)


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description="Classify pictures, a line for each, or for each digit in it."
    )
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="a picture; - is standard input")
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")
    parser.add_argument("--show", action="store_true", help="print the model's input too")
    parser.add_argument(
        "--model", type=Path, default=ROOT / "models/model.safetensors", help="default: %(default)s"
    )
    return parser.parse_args()


def read_images(file: Path | BinaryIO, spec: ModelSpec, name: str) -> np.ndarray:
    """What a model is given for a picture: uint8 [K, C, H, W], K > 1 for several digits.

    Raises PictureError.
    """
    if spec.picture == "photo":
        return read_photo(file, spec.shape, name)[np.newaxis]
    if set(spec.classes) <= set("0123456789"):
        return read_glyphs(file, name)[:, np.newaxis]
    return read_glyph(file, name)[np.newaxis, np.newaxis]  # other glyphs may have several parts


def describe(name: str, probabilities: np.ndarray, classes: list[str]) -> dict[str, Any]:
    """The answer for one image, as --json prints it."""
    best, second = (int(index) for index in np.argsort(-probabilities, kind="stable")[:2])
    return {
        "file": name,
        "class": classes[best],
        "confidence": round(float(probabilities[best]), 6),
        "runner_up": classes[second],
        "probabilities": {
            key: round(float(value), 6) for key, value in zip(classes, probabilities, strict=True)
        },
    }


def sentence(answer: dict[str, Any]) -> str:
    """The same as text: 7 (98.2%), then 1 (0.9%)."""
    second = answer["runner_up"]
    return (
        f"{answer['class']} ({answer['confidence']:.1%}),"
        f" then {second} ({answer['probabilities'][second]:.1%})"
    )


def drawing(image: np.ndarray) -> str:
    """An image uint8 [C, H, W] in shades of grey, as text, two characters per pixel."""
    levels = (image.mean(0) * len(SHADES) / 256).astype(int)
    return "\n".join("".join(2 * SHADES[level] for level in row).rstrip() for row in levels)


if __name__ == "__main__":
    run_script(main)
