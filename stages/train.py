"""Train the model of params.yaml: data/processed → models/model.safetensors and its metrics."""

import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))
signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during the imports: no traceback

from mnist_pipeline.augmentation import AUGMENTATIONS
from mnist_pipeline.checkpoints import Checkpoint, check_agreement, origin_of
from mnist_pipeline.data import load_split, make_loader
from mnist_pipeline.distributed import barrier, is_first_here, joined
from mnist_pipeline.errors import run_stage
from mnist_pipeline.files import six_digits, write_csv, write_json
from mnist_pipeline.inference import inference_loader
from mnist_pipeline.losses import LOSSES
from mnist_pipeline.models import ModelSpec, Network, build_model, save_model, together
from mnist_pipeline.optimizers import build_optimizer, build_schedule
from mnist_pipeline.params import TrainParams, read_params
from mnist_pipeline.runtime import choose_device, deterministic, engine, keep_memory, parallel
from mnist_pipeline.training import Epoch, Trainer, mean_epoch

if TYPE_CHECKING:
    import torch

DATA, MODELS, METRICS = ROOT / "data/processed", ROOT / "models", ROOT / "metrics"


def main() -> None:
    """Read params.yaml, be one of the processes that its launcher starts, and train."""
    params = read_params(ROOT / "params.yaml", TrainParams)
    deterministic()
    keep_memory()
    with joined(choose_device(params.device)) as device:
        train(params, device)


def train(params: TrainParams, device: "torch.device") -> None:
    """Read the train and validation splits, write the model and its metrics."""
    train_set, header = load_split(DATA, "train")
    validation_set, _ = load_split(DATA, "validation", like=header)
    if params.num_workers == 0:  # worker processes need the data in the CPU's memory
        train_set = train_set.to(device)
    validation_loader = None
    if validation_set:
        validation_loader = inference_loader(validation_set.part().to(device))

    symmetric = params.normalization == "symmetric"
    spec = ModelSpec(
        model=params.model,
        settings=params.chosen("model"),
        classes=header["classes"],
        mean=0.5 if symmetric else header["mean"],
        std=0.5 if symmetric else header["std"],
        precision=params.precision,
        loss=params.loss,
        dataset=header["dataset"],
        members=params.ensemble,
    )
    data = [DATA / "train.safetensors", DATA / "validation.safetensors"]
    origin = origin_of(params.inputs(), data, engine(device))
    check_agreement(origin)
    print(f"Training on {len(train_set)} images of {spec.dataset}, on {device}")

    members: list[Network] = []
    histories: list[list[Epoch]] = []
    kept: list[Epoch] = []
    for number in range(1, params.ensemble + 1):
        seed = params.seed + number - 1
        if params.ensemble > 1:
            print(f"Network {number} of {params.ensemble}, seed {seed}")
        train_loader = make_loader(
            train_set, params.batch_size, params.shuffle, seed, params.num_workers, shared=True
        )
        model = build_model(spec, seed).to(device)
        optimizer = build_optimizer(
            params.optimizer, params.chosen("optimizer"), model.parameters()
        )
        schedule = build_schedule(
            params.schedule, params.chosen("schedule"), optimizer, params.epochs, len(train_loader)
        )
        trainer = Trainer(
            model=parallel(model, device),
            loss=LOSSES[params.loss],
            optimizer=optimizer,
            schedule=schedule,
            train_loader=train_loader,
            validation_loader=validation_loader,
            device=device,
            epochs=params.epochs,
            augmentation=AUGMENTATIONS[params.augmentation](**params.chosen("augmentation")),
            label_smoothing=params.label_smoothing,
            seed=seed,
            keep=params.keep,
            log_every=params.log_every,
        )
        histories.append(trainer.history)
        checkpoint = Checkpoint(MODELS / f"checkpoint-{number}.safetensors", origin)
        kept.append(trainer.train(checkpoint, lambda: write_history(histories)))
        members.append(model)

    if is_first_here():
        save_model(MODELS / "model.safetensors", together(members), spec, engine(device))
        write_json(METRICS / "train.json", six_digits(mean_epoch(kept).metrics()))
    barrier()  # a process that fails before here can still be restarted
    if is_first_here():
        for path in MODELS.glob("checkpoint-*.safetensors"):
            path.unlink()


def write_history(histories: Sequence[Sequence[Epoch]]) -> None:
    """A row an epoch, anew after each: the mean over the networks that have come so far."""
    if not is_first_here():
        return
    epochs = [mean_epoch([e for e in row if e]) for row in zip_longest(*histories)]
    write_csv(METRICS / "history.csv", [six_digits(asdict(epoch)) for epoch in epochs])


if __name__ == "__main__":
    run_stage(main)
