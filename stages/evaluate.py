"""Measure the model on the test split: models, data/processed → metrics and pictures."""

import signal
import sys
from dataclasses import asdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))
signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during the imports: no traceback

from mnist_pipeline.data import load_split
from mnist_pipeline.errors import run_stage
from mnist_pipeline.evaluation import class_table, prediction_table, reliability_table, summary
from mnist_pipeline.files import six_digits, write_csv, write_json
from mnist_pipeline.inference import inference_loader, predict
from mnist_pipeline.losses import LOSSES
from mnist_pipeline.models import load_model
from mnist_pipeline.params import EvaluateParams, read_params
from mnist_pipeline.pictures import first_layer, mistakes, samples, write_png
from mnist_pipeline.runtime import choose_device, deterministic, parallel

METRICS, PICTURES = ROOT / "metrics", ROOT / "pictures"


def main() -> None:
    """Read params.yaml, the model and the test split, write metrics and pictures."""
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
    predicted, confidence = probabilities.argmax(1), probabilities.max(1)
    predictions = prediction_table(probabilities, actual, spec.classes)
    for name, table in {
        "classes": class_table(predicted, actual, spec.classes),
        "reliability": reliability_table(confidence, predicted == actual),
        "predictions": predictions,
    }.items():
        write_csv(METRICS / f"{name}.csv", [six_digits(row) for row in table.to_dict("records")])

    images = test_set.data.numpy()
    write_png(PICTURES / "mistakes.png", mistakes(images, predictions, spec.classes))
    write_png(PICTURES / "samples.png", samples(images, actual, spec.classes))
    write_png(PICTURES / "first_layer.png", first_layer(model))


if __name__ == "__main__":
    run_stage(main)
