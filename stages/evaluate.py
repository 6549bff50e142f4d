"""Measure the model on the test split: models, data/processed → metrics."""

from _stage import ROOT

from mnist_pipeline.common.errors import run_script
from mnist_pipeline.common.files import six_digits, write_csv, write_json
from mnist_pipeline.common.settings import read_settings
from mnist_pipeline.evaluation.metrics import (
    class_table,
    prediction_table,
    reliability_table,
    summary,
)
from mnist_pipeline.evaluation.pictures import first_layer, mistakes, samples, write_png
from mnist_pipeline.model.files import check_dataset, load_model
from mnist_pipeline.model.inference import inference_loader, predict_logits
from mnist_pipeline.model.losses import LOSSES
from mnist_pipeline.runtime.arithmetic import HardwareSettings, set_up
from mnist_pipeline.runtime.device import prepare_model
from mnist_pipeline.splits.batches import load_info, load_split

DATA, METRICS = ROOT / "data/processed", ROOT / "metrics"
PICTURES = METRICS / "pictures"


def main() -> None:
    """Read params.yaml, the model and the test split, write metrics and pictures."""
    settings = read_settings(ROOT / "params.yaml", HardwareSettings)
    device = set_up(settings)
    model, spec = load_model(ROOT / "models/model.safetensors")
    check_dataset(spec, load_info(DATA))
    test_set = load_split(DATA, "test")

    loader = inference_loader(test_set.to(device))
    prepared = prepare_model(model, settings.arithmetic, device, spec.shape)
    logits, labels = predict_logits(prepared, loader, device)
    criterion = LOSSES[spec.loss]()
    probabilities, actual = criterion.probabilities(logits).numpy(), labels.numpy()
    results = summary(probabilities, actual, criterion(logits, labels).item())
    print(f"Accuracy of the model on the {len(actual)} test images: {results['accuracy']:.2%}")

    predictions = prediction_table(probabilities, actual, spec.classes)
    write_json(METRICS / "test.json", six_digits(results))
    write_csv(METRICS / "classes.csv", class_table(probabilities, actual, spec.classes))
    write_csv(METRICS / "reliability.csv", reliability_table(probabilities, actual))
    write_csv(METRICS / "predictions.csv", predictions)

    images = test_set.data.numpy()
    write_png(PICTURES / "mistakes.png", mistakes(images, predictions, spec.classes))
    write_png(PICTURES / "samples.png", samples(images, actual, spec.classes))
    write_png(PICTURES / "first_layer.png", first_layer(model, spec.shape))


if __name__ == "__main__":
    run_script(main)
