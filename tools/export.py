"""Write the model as ONNX, models/model.onnx, and check it against PyTorch on the test split.

uint8 images [batch, 1, 28, 28] in, float32 probabilities [batch, classes] out, computed in float32
whatever the training's precision was; the class names are in the file's metadata, under "classes".
DVC doesn't know the file: it is made from the model in seconds, and another release of the exporter
may write other bytes for the same model.
"""

import json
import logging
import signal
import sys
from dataclasses import asdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))
signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during the imports: no traceback

import onnxruntime
import torch

from mnist_pipeline.data import load_split
from mnist_pipeline.errors import UserError, run_stage
from mnist_pipeline.files import atomic
from mnist_pipeline.inference import BATCH_SIZE, Classifier
from mnist_pipeline.losses import LOSSES
from mnist_pipeline.models import Network, load_model

MODEL, EXPORTED = ROOT / "models/model.safetensors", ROOT / "models/model.onnx"
TOLERANCE = 1e-4  # of a probability: two engines add up in another order


def main() -> None:
    """Read the model and the test split, write models/model.onnx if the two agree."""
    model, spec = load_model(MODEL)
    for module in model.modules():
        if isinstance(module, Network):
            module.precision = "float32"  # bfloat16's roundings are another in each engine
    classifier = Classifier(model, LOSSES[spec.loss]).eval()
    test_set, _ = load_split(ROOT / "data/processed", "test", like=asdict(spec))
    with atomic(EXPORTED) as temporary:
        export(classifier, spec.classes, temporary)
        differing, largest = compare(classifier, temporary, test_set.data)
        agreement = (
            f"{len(test_set) - differing} of {len(test_set)} predictions are those of PyTorch;"
            f" the probabilities differ by {largest:.1e} at most"
        )
        if differing or largest > TOLERANCE:
            raise UserError(f"{EXPORTED}: not written: {agreement}, expected {TOLERANCE:.0e}")
    print(f"{EXPORTED.relative_to(ROOT)}: {agreement}")


def export(classifier: Classifier, classes: list[str], path: Path) -> None:
    """Write a classifier in evaluation mode; the size of the batch is left open."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    program = torch.onnx.export(
        classifier,
        (torch.zeros(2, 1, 28, 28, dtype=torch.uint8),),
        input_names=["images"],
        output_names=["probabilities"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        dynamo=True,
        verbose=False,
    )
    assert program is not None  # as it is where no path is given
    for node in program.model.graph:
        node.metadata_props.clear()  # the lines of code it came from, in folders of this machine
    program.model.metadata_props["classes"] = json.dumps(classes)
    program.save(path)


@torch.no_grad()
def compare(classifier: Classifier, path: Path, images: torch.Tensor) -> tuple[int, float]:
    """How many predictions differ, and the largest difference of a probability."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    differing, largest = 0, 0.0
    for batch in images.split(BATCH_SIZE):
        expected = classifier(batch)
        found = torch.from_numpy(session.run(None, {"images": batch.numpy()})[0])
        differing += int((found.argmax(1) != expected.argmax(1)).sum())
        largest = max(largest, float((found - expected).abs().max()))
    return differing, largest


if __name__ == "__main__":
    run_stage(main)
