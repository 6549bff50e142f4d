"""Export the model to models/model.onnx and check it against PyTorch on the test split.

Input: images uint8 [batch, C, H, W]; output: probabilities float32 [batch, classes], computed in
float32 whatever the precision of the training. The metadata entry "classes" holds the class names.
DVC does not track the file: it takes seconds to write, and another version of the exporter may
write other bytes for the same model.
"""

import argparse
import json
import logging
from pathlib import Path

from _tool import ROOT

import torch

from mnist_pipeline.common.errors import UserError, run_script
from mnist_pipeline.common.files import atomic
from mnist_pipeline.model.files import ModelSpec, check_dataset, load_model
from mnist_pipeline.model.inference import BATCH_SIZE, Classifier
from mnist_pipeline.model.losses import LOSSES
from mnist_pipeline.splits.batches import load_info, load_split

MODEL, EXPORTED = ROOT / "models/model.safetensors", ROOT / "models/model.onnx"
DATA = ROOT / "data/processed"
TOLERANCE = 1e-4  # of a probability: the two runtimes sum in different orders


def main() -> None:
    """Read the model and the test split, write models/model.onnx if both runtimes agree."""
    argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0]).parse_args()
    model, spec = load_model(MODEL)
    model.precision = "float32"  # the runtimes round bfloat16 differently
    classifier = Classifier(model, LOSSES[spec.loss]()).eval()
    check_dataset(spec, load_info(DATA))
    test_set = load_split(DATA, "test")
    with atomic(EXPORTED) as temporary:
        export(classifier, spec, temporary)
        differing, largest = compare(classifier, temporary, test_set.data)
        agreement = (
            f"{len(test_set) - differing} of {len(test_set)} predictions equal PyTorch's;"
            f" probabilities differ by at most {largest:.1e}"
        )
        if differing or largest > TOLERANCE:
            raise UserError(f"{EXPORTED}: not written: {agreement}, expected {TOLERANCE:.0e}")
    print(f"Wrote {EXPORTED.relative_to(ROOT)}: {agreement}")


def export(classifier: Classifier, spec: ModelSpec, path: Path) -> None:
    """Write a classifier that is in evaluation mode, for batches of any size."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    program = torch.onnx.export(
        classifier,
        (torch.zeros(2, *spec.shape, dtype=torch.uint8),),
        input_names=["images"],
        output_names=["probabilities"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        dynamo=True,
        verbose=False,
    )
    assert program is not None  # it is None only if a path is given
    for node in program.model.graph:
        node.metadata_props.clear()  # paths of source files on this machine
    program.model.metadata_props["classes"] = json.dumps(spec.classes)
    program.save(path)


@torch.no_grad()
def compare(classifier: Classifier, path: Path, images: torch.Tensor) -> tuple[int, float]:
    """Number of differing predictions, and the largest difference of a probability."""
    import onnxruntime  # --help needs no package of this tool

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    differing, largest = 0, 0.0
    for batch in images.split(BATCH_SIZE):
        expected = classifier(batch)
        found = torch.from_numpy(session.run(None, {"images": batch.numpy()})[0])
        differing += int((found.argmax(1) != expected.argmax(1)).sum())
        largest = max(largest, float((found - expected).abs().max()))
    return differing, largest


if __name__ == "__main__":
    run_script(main)
