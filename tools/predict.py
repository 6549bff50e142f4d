"""Say what pictures show, a line a file: python tools/predict.py seven.png photo.jpg"""

import argparse
import json
import signal
import sys
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))
signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during the imports: no traceback

import numpy as np
import torch

from mnist_pipeline.errors import run_stage
from mnist_pipeline.inference import Classifier
from mnist_pipeline.losses import LOSSES
from mnist_pipeline.models import load_model
from mnist_pipeline.prepare import PictureError, prepare

SHADES = " ░▒▓█"


def main() -> None:
    """Answer for every file that can be read; exit code 1 if one of them can't."""
    arguments = parse()
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file's name may be any bytes
    model, spec = load_model(arguments.model)
    classifier = Classifier(model, LOSSES[spec.loss]).eval()
    failed = False
    for name in arguments.images:
        try:
            image = prepare(BytesIO(sys.stdin.buffer.read()) if name == "-" else Path(name), name)
        except PictureError as error:
            failed = True
            if arguments.json:
                print(json.dumps({"file": name, "error": str(error)}))
            else:
                print(f"error: {error}", file=sys.stderr)
            continue
        with torch.no_grad():
            probabilities = classifier(torch.from_numpy(image)[None, None])[0].numpy()
        answer = describe(name, probabilities, spec.classes)
        if arguments.json:
            shown = {"image": image.tolist()} if arguments.show else {}
            print(json.dumps(answer | shown))
        else:
            print(sentence(answer))
            if arguments.show:
                print(drawing(image))
    if failed:
        sys.exit(1)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Say what pictures show, a line a file.")
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="a picture; - is standard input")
    parser.add_argument("--json", action="store_true", help="a JSON object a line")
    parser.add_argument("--show", action="store_true", help="with the 28 × 28 image the model saw")
    parser.add_argument(
        "--model", type=Path, default=ROOT / "models/model.safetensors", help="default: %(default)s"
    )
    return parser.parse_args()


def describe(name: str, probabilities: np.ndarray, classes: list[str]) -> dict[str, Any]:
    """What --json prints of a picture."""
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
    """The same for a person: seven.png: 7 (98.2%), then 1 (0.9%)."""
    second = answer["runner_up"]
    return (
        f"{answer['file']}: {answer['class']} ({answer['confidence']:.1%}),"
        f" then {second} ({answer['probabilities'][second]:.1%})"
    )


def drawing(image: np.ndarray) -> str:
    """An image uint8 [28, 28] in letters, two to a pixel."""
    levels = image.astype(int) * len(SHADES) // 256
    return "\n".join("".join(2 * SHADES[level] for level in row).rstrip() for row in levels)


if __name__ == "__main__":
    run_stage(main)
