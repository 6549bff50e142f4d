"""Assemble a run from its params, train, write the model and its metrics."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import torch

from ..common.errors import UserError
from ..common.files import six_digits, write_csv, write_json
from ..model.inference import inference_loader
from ..model.networks import ModelSpec, Network, build_model, save_model
from ..runtime.arithmetic import choose_precision, environment
from ..runtime.distributed import barrier, is_local_rank_0
from ..splits.batches import DatasetInfo, ImageDataset, load_info, load_split, make_loader
from .checkpoints import Checkpoint, agree, compute_fingerprint
from .history import Epoch
from .loop import Trainer
from .settings import TrainSettings


def train(
    params: TrainSettings, data: Path, models: Path, metrics: Path, device: torch.device
) -> None:
    """Train the model of `params` on the splits in `data`.

    Writes `models`/model.safetensors, `metrics`/train.json and `metrics`/history.csv; the last one
    and a checkpoint in `models` after every epoch. Raises UserError: a split is missing, damaged or
    empty, hosts disagree, or training diverges.
    """
    info = load_info(data)
    train_set, validation_set = load_split(data, "train"), load_split(data, "validation")
    if params.keep == "best" and not len(validation_set):
        raise UserError(
            f"{data / 'validation'}: found no images, by which keep: best selects;"
            " 'dvc repro preprocess' writes them"
        )
    files = [data / "dataset.json", *data.glob("train/*.npy"), *data.glob("validation/*.npy")]
    spec, own = build_spec(params, info, device), environment(params.arithmetic, device)
    fingerprint = agree(compute_fingerprint(params.inputs(), sorted(files), own))
    print(
        f"Training on {len(train_set)} images of {info.name}, on {device} in {spec.precision},"
        f" {own['threads']} thread{'s' * (own['threads'] != 1)}"
    )

    model = build_model(spec, params.seed).to(device)
    trainer = build_trainer(params, model, train_set, validation_set, device)
    checkpoint = Checkpoint(models / "checkpoint.safetensors", fingerprint)
    history_path = metrics / "history.csv"
    kept = trainer.train(checkpoint, lambda: write_history(history_path, trainer.history))
    warn_of_guessing(kept.train_accuracy, train_set)

    if is_local_rank_0():
        shared = {name: fingerprint[name] for name in own}
        save_model(models / "model.safetensors", model, spec, shared)
        write_json(metrics / "train.json", six_digits(kept.metrics()))
    barrier()  # until here a failed rank can be restarted from the checkpoint
    if is_local_rank_0():
        checkpoint.path.unlink(missing_ok=True)


def warn_of_guessing(accuracy: float, train_set: ImageDataset) -> None:
    """Say so if a model does no better than one that always answers the most frequent class."""
    guessing = int(torch.bincount(train_set.labels).max()) / len(train_set)
    if accuracy <= guessing:
        print(
            f"warning: an accuracy of {accuracy:.2%} on the training images is no better than"
            f" guessing the most frequent class, {guessing:.2%}; try a lower lr for this optimizer"
        )


def build_spec(params: TrainSettings, info: DatasetInfo, device: torch.device) -> ModelSpec:
    """The spec of the chosen model for a dataset, in the precision that the device is to use."""
    symmetric = params.normalization == "symmetric"
    return ModelSpec(
        model=params.model,
        settings=params.chosen("model"),
        classes=info.classes,
        mean=0.5 if symmetric else info.mean,
        std=0.5 if symmetric else info.std,
        precision=choose_precision(params.precision, params.arithmetic, device),
        loss=params.loss,
        dataset=info.name,
        shape=info.shape,
        picture=info.picture,
    )


def build_trainer(
    params: TrainSettings,
    model: Network,
    train_set: ImageDataset,
    validation_set: ImageDataset,
    device: torch.device,
) -> Trainer:
    """Build the loaders and the trainer of a model that is on `device`."""
    if params.num_workers == 0:  # worker processes need the data on the CPU
        train_set = train_set.to(device)
    train_loader = make_loader(
        train_set, params.batch_size, params.shuffle, params.seed, params.num_workers, sharded=True
    )
    validation_loader = None
    if len(validation_set):
        validation_loader = inference_loader(validation_set.shard().to(device))
    return Trainer(params, model, train_loader, validation_loader, device)


def write_history(path: Path, history: Sequence[Epoch]) -> None:
    """Write one row per epoch, on one rank per host."""
    if is_local_rank_0():
        write_csv(path, pd.DataFrame(map(asdict, history)))
