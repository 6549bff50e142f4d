"""Accuracy of several models and of their averaged probabilities on the test split.

    python tools/vote.py EXPERIMENT...

Each EXPERIMENT is an experiment, branch, tag or commit, or "workspace"; DVC provides its model from
the cache or a remote. Members of an ensemble can thus be trained in parallel in the queue.
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

from _tool import ROOT

import numpy as np
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.scm import SCMError
from scipy.stats import binomtest

from mnist_pipeline.common.errors import UserError, run
from mnist_pipeline.common.params import HardwareParams
from mnist_pipeline.common.runtime import set_up
from mnist_pipeline.model.inference import inference_loader, predict
from mnist_pipeline.model.losses import LOSSES
from mnist_pipeline.model.networks import ModelSpec, Network, check_dataset, load_model
from mnist_pipeline.splits.batches import load_info, load_split

DATA, MODEL = ROOT / "data/processed", "models/model.safetensors"


def main() -> None:
    """Load every model and the test split, print one line per model and one for the vote."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "experiments", nargs="+", metavar="EXPERIMENT", help="experiment, commit or workspace"
    )
    experiments = parser.parse_args().experiments
    device = set_up(HardwareParams(arithmetic="native", device="auto", threads="auto"))
    info, test_set = load_info(DATA), load_split(DATA, "test")
    loader = inference_loader(test_set.to(device))
    models, problems = [], []
    for experiment in experiments:
        try:
            models.append(load_from_dvc(experiment))
        except UserError as error:
            problems.append(str(error))
    if problems:
        raise UserError("\n       ".join(problems))
    width = max(map(len, [*experiments, "together"]))
    total = np.zeros((len(test_set), len(info.classes)))
    for experiment, (model, spec) in zip(experiments, models, strict=True):
        check_dataset(spec, info)
        logits, labels = predict(model.to(device), loader, device)
        probabilities = LOSSES[spec.loss].probabilities(logits).numpy()
        print(f"{experiment:{width}}  {describe(probabilities, labels.numpy())}")
        total += probabilities
    if len(experiments) > 1:
        print(f"{'together':{width}}  {describe(total, labels.numpy())}")


def load_from_dvc(experiment: str) -> tuple[Network, ModelSpec]:
    """Load the model of an experiment, commit or the workspace.

    Raises UserError: there is no such revision, or its model is in no cache or remote.
    """
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        try:
            # Unlike dvc.api, Repo knows that the project may be a sub-folder of its repository.
            with Repo(str(ROOT)) as repo, repo.switch(experiment):
                repo.dvcfs.get_file(f"/{MODEL}", str(path))
        except (DvcException, SCMError) as error:
            raise UserError(f"{experiment}: {error}; 'dvc exp show' lists experiments") from None
        except FileNotFoundError:
            raise UserError(
                f"{experiment}: its {MODEL} is neither in the cache nor in a remote; train it here,"
                " or 'make push' where it was trained"
            ) from None
        return load_model(path)


def describe(probabilities: np.ndarray, labels: np.ndarray) -> str:
    """Accuracy with its 95% Wilson interval, and number of errors, of scores [N, C]."""
    num_correct = int((probabilities.argmax(1) == labels).sum())
    test = binomtest(num_correct, len(labels))
    low, high = test.proportion_ci(method="wilson")
    return (
        f"{num_correct / len(labels):.2%} (95% interval {low:.2%} to {high:.2%}),"
        f" {len(labels) - num_correct} errors"
    )


if __name__ == "__main__":
    run(main)
