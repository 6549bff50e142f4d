"""A run: assemble it from its settings, train, write the model and its metrics."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from ..common.files import six_digits, write_json, write_rows
from ..common.settings import ConflictError
from ..model.files import Model, ModelSpec, build_model, save_model
from ..model.inference import inference_loader
from ..model.losses import LOSSES
from ..runtime.arithmetic import choose_precision, environment
from ..runtime.busy import OtherWork
from ..runtime.device import prepare_model
from ..runtime.distributed import barrier, is_local_rank_0
from ..splits.batches import DatasetInfo, ImageDataset, load_info, load_split, make_loader
from .augmentation import AUGMENTATIONS
from .checkpoints import Checkpoint
from .fingerprint import common_fingerprint, compute_fingerprint
from .history import Epoch
from .loop import Trainer
from .optimizers import OPTIMIZERS
from .schedules import SCHEDULES
from .settings import TrainSettings


def train(
    settings: TrainSettings, data: Path, models: Path, metrics: Path, device: torch.device
) -> None:
    """Train the model of `settings` on the splits in `data`.

    Writes `models`/model.safetensors, `metrics`/train.json and `metrics`/history.csv; the last one
    and a checkpoint in `models` after every epoch. Raises UserError: a split is missing, damaged or
    empty, settings do not fit it, hosts disagree, or training diverges.
    """
    train_set, validation_set = load_splits(settings, data)
    spec = build_spec(settings, load_info(data), device)
    fingerprint = run_fingerprint(settings, data, device)
    model = build_model(spec, settings.seed)
    trainer = build_trainer(settings, model, train_set, validation_set, device)
    threads = torch.get_num_threads()
    print(
        f"Training on {len(train_set)} images of {spec.dataset}, on {device} in {spec.precision},"
        f" {threads} thread{'s' * (threads != 1)}"
    )
    other_work = OtherWork(device)
    other_work.warn_at_start()

    def after_epoch() -> None:
        write_history(metrics / "history.csv", trainer.history)
        other_work.warn_once()

    checkpoint = Checkpoint(models / "checkpoint.safetensors", fingerprint)
    epoch = trainer.train(checkpoint, after_epoch)
    warn_of_guessing(epoch.train_accuracy, train_set)

    if is_local_rank_0():
        recorded = {name: fingerprint[name] for name in environment(settings.arithmetic, device)}
        save_model(models / "model.safetensors", model, spec, recorded)
        write_json(metrics / "train.json", six_digits(epoch.metrics()))
    barrier()  # until here a failed rank can be restarted from the checkpoint
    if is_local_rank_0():
        checkpoint.path.unlink(missing_ok=True)


def load_splits(settings: TrainSettings, data: Path) -> tuple[ImageDataset, ImageDataset]:
    """The training and the validation split. Raises UserError: missing, damaged or empty."""
    train_set = load_split(data, "train")
    validation_set = load_split(data, "validation")
    if settings.keep == "best" and not len(validation_set):
        raise ConflictError(
            f"{data / 'validation'}: found no validation images, by which keep: best selects;"
            " expected classes of two or more images and a validation_fraction above 0, which"
            " 'dvc repro preprocess' applies"
        )
    return train_set, validation_set


def run_fingerprint(settings: TrainSettings, data: Path, device: torch.device) -> dict[str, object]:
    """The inputs that shape a run, the same on all ranks. Raises UserError: hosts disagree."""
    files = [data / "dataset.json", *data.glob("train/*.npy"), *data.glob("validation/*.npy")]
    environment_here = environment(settings.arithmetic, device)
    return common_fingerprint(
        compute_fingerprint(settings.inputs(), sorted(files), environment_here)
    )


def build_spec(settings: TrainSettings, info: DatasetInfo, device: torch.device) -> ModelSpec:
    """The spec of a model for a dataset, in the precision that the device is to use."""
    symmetric = settings.normalization == "symmetric"
    return ModelSpec(
        model=settings.model,
        settings=settings.block("model"),
        classes=info.classes,
        mean=0.5 if symmetric else info.mean,
        std=0.5 if symmetric else info.std,
        precision=choose_precision(settings.precision, settings.arithmetic, device),
        loss=settings.loss,
        dataset=info.name,
        shape=info.shape,
        picture=info.picture,
    )


def build_trainer(
    settings: TrainSettings,
    model: Model,
    train_set: ImageDataset,
    validation_set: ImageDataset,
    device: torch.device,
) -> Trainer:
    """Assemble a run. Raises ConflictError: settings do not fit together, or the images."""
    shape = train_set.data.shape[1:]
    prepared = prepare_model(model, settings.arithmetic, device, shape)
    if settings.num_workers == 0:  # worker processes need the data on the CPU
        train_set = train_set.to(device)
    train_loader = make_loader(
        train_set, settings.batch_size, settings.shuffle, settings.seed, settings.num_workers,
        sharded=True,
    )  # fmt: skip
    validation_loader = None
    if len(validation_set):
        validation_loader = inference_loader(validation_set.shard().to(device))
    optimizer = OPTIMIZERS[settings.optimizer](model.parameters(), **settings.block("optimizer"))
    return Trainer(
        settings=settings,
        model=prepared,
        criterion=LOSSES[settings.loss](settings.label_smoothing),
        optimizer=optimizer,
        schedule=SCHEDULES[settings.schedule](
            optimizer, settings.epochs, len(train_loader), **settings.block("schedule")
        ),
        augmentation=AUGMENTATIONS[settings.augmentation](shape, **settings.block("augmentation")),
        train_loader=train_loader,
        validation_loader=validation_loader,
        device=device,
    )


def write_history(path: Path, history: Sequence[Epoch]) -> None:
    """Write one row per epoch, on one rank per host."""
    if is_local_rank_0():
        write_rows(path, [asdict(epoch) for epoch in history])


def warn_of_guessing(accuracy: float, train_set: ImageDataset) -> None:
    """Say so if a model does no better than one that always answers the most frequent class."""
    guessing = int(torch.bincount(train_set.labels).max()) / len(train_set)
    if accuracy <= guessing:
        print(
            f"warning: an accuracy of {accuracy:.2%} on the training images is no better than"
            f" guessing the most frequent class, {guessing:.2%}; try a lower lr for this optimizer"
        )
