"""Accuracy of several models and of their averaged probabilities on the test split.

    python tools/vote.py EXPERIMENT...

Each EXPERIMENT is an experiment, branch, tag or commit, "workspace", or a pattern such as "best-*".
DVC provides the models from the cache or a remote, so the members of an ensemble can be trained in
parallel in the queue.
"""

import argparse

from _tool import ROOT

import numpy as np
from _dvc import expand, read_each
from _significance import describe

from mnist_pipeline.common.errors import run
from mnist_pipeline.model.files import check_dataset, load_model
from mnist_pipeline.model.inference import inference_loader, predict_logits
from mnist_pipeline.model.losses import LOSSES
from mnist_pipeline.runtime.arithmetic import HardwareSettings, set_up
from mnist_pipeline.splits.batches import load_info, load_split

DATA, MODEL = ROOT / "data/processed", "models/model.safetensors"


def main() -> None:
    """Load every model and the test split, print one line per model and one for the vote."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "patterns", nargs="+", metavar="EXPERIMENT", help="experiment, pattern, commit or workspace"
    )
    experiments = [name for pattern in parser.parse_args().patterns for name in expand(pattern)]
    device = set_up(HardwareSettings(arithmetic="native", device="auto", threads="auto"))
    info, test_set = load_info(DATA), load_split(DATA, "test")
    loader = inference_loader(test_set.to(device))
    models = read_each(experiments, MODEL, load_model)
    width = max(map(len, [*experiments, "together"]))
    total = np.zeros((len(test_set), len(info.classes)))
    for experiment, (model, spec) in zip(experiments, models, strict=True):
        check_dataset(spec, info)
        logits, labels = predict_logits(model.to(device), loader, device)
        probabilities = LOSSES[spec.loss]().probabilities(logits).numpy()
        print(f"{experiment:{width}}  {describe(probabilities.argmax(1) == labels.numpy())}")
        total += probabilities
    if len(experiments) > 1:
        print(f"{'together':{width}}  {describe(total.argmax(1) == labels.numpy())}")


if __name__ == "__main__":
    run(main)
