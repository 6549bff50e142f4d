"""Measure the model on the test split: models, data/processed → metrics/test.json and tables."""

import signal
import sys
from dataclasses import asdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))
signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during the imports: no traceback

from mnist_pipeline.data import load_split
from mnist_pipeline.errors import run_stage
from mnist_pipeline.evaluation import class_table, prediction_table, summary
from mnist_pipeline.files import six_digits, write_csv, write_json
from mnist_pipeline.inference import inference_loader, predict
from mnist_pipeline.losses import LOSSES
from mnist_pipeline.models import load_model
from mnist_pipeline.params import EvaluateParams, read_params
from mnist_pipeline.runtime import choose_device, deterministic, parallel

METRICS = ROOT / "metrics"


def main() -> None:
    """Read params.yaml, the model and the test split, write metrics."""
    params = read_params(ROOT / "params.yaml", EvaluateParams)
    deterministic()
    device = choose_device(params.device)
    model, spec = load_model(ROOT / "models/model.safetensors")
    test_set, _ = load_split(ROOT / "data/processed", "test", like=asdict(spec))

    loss = LOSSES[spec.loss]
    logits, labels = predict(parallel(model, device), inference_loader(test_set.to(device)), device)
    probabilities, actual = loss.probabilities(logits).numpy(), labels.numpy()
    results = summary(probabilities, actual, loss.mean(logits, labels).item())
    print(
        f"Accuracy of the model on the {len(actual)} test images: {100 * results['accuracy']:.2f}%"
    )
    write_json(METRICS / "test.json", six_digits(results))
    for name, table in {
        "classes": class_table(probabilities.argmax(1), actual, spec.classes),
        "predictions": prediction_table(probabilities, actual, spec.classes),
    }.items():
        write_csv(METRICS / f"{name}.csv", [six_digits(row) for row in table.to_dict("records")])


if __name__ == "__main__":
    run_stage(main)
