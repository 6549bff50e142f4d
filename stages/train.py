"""Train the model of params.yaml: data/processed → models/model.safetensors and its metrics."""

import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))
signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during the imports: no traceback

from mnist_pipeline.checkpoints import Checkpoint, origin_of
from mnist_pipeline.data import load_split, make_loader
from mnist_pipeline.errors import run_stage
from mnist_pipeline.files import six_digits, write_csv, write_json
from mnist_pipeline.inference import inference_loader
from mnist_pipeline.losses import LOSSES
from mnist_pipeline.models import ModelSpec, build_model, save_model
from mnist_pipeline.optimizers import build_optimizer, build_schedule
from mnist_pipeline.params import TrainParams, read_params
from mnist_pipeline.runtime import choose_device, deterministic, engine, parallel
from mnist_pipeline.training import Epoch, Trainer

DATA, METRICS = ROOT / "data/processed", ROOT / "metrics"


def main() -> None:
    """Read params.yaml and the train and validation splits, write the model and its metrics."""
    params = read_params(ROOT / "params.yaml", TrainParams)
    deterministic()
    device = choose_device(params.device)
    train_set, header = load_split(DATA, "train")
    validation_set, _ = load_split(DATA, "validation", like=header)
    if params.num_workers == 0:  # worker processes need the data in the CPU's memory
        train_set = train_set.to(device)
    train_loader = make_loader(
        train_set, params.batch_size, params.shuffle, params.seed, params.num_workers
    )

    symmetric = params.normalization == "symmetric"
    spec = ModelSpec(
        model=params.model,
        settings=params.model_settings,
        classes=header["classes"],
        mean=0.5 if symmetric else header["mean"],
        std=0.5 if symmetric else header["std"],
        loss=params.loss,
        dataset=header["dataset"],
    )
    model = build_model(spec, params.seed).to(device)
    optimizer = build_optimizer(params.optimizer, params.optimizer_settings, model.parameters())
    schedule = build_schedule(
        params.schedule, params.schedule_settings, optimizer, params.epochs, len(train_loader)
    )
    trainer = Trainer(
        model=parallel(model, device),
        loss=LOSSES[params.loss],
        optimizer=optimizer,
        schedule=schedule,
        train_loader=train_loader,
        validation_loader=inference_loader(validation_set.to(device)) if validation_set else None,
        device=device,
        epochs=params.epochs,
        seed=params.seed,
        keep=params.keep,
        log_every=params.log_every,
    )
    print(f"Training on {len(train_set)} images of {spec.dataset}, on {device}")
    data = [DATA / "train.safetensors", DATA / "validation.safetensors"]
    origin = origin_of(params.inputs(), data, engine(device))
    checkpoint = Checkpoint(ROOT / "models/checkpoint.safetensors", origin)
    kept = trainer.train(checkpoint, write_history)

    save_model(ROOT / "models/model.safetensors", model, spec, engine(device))
    write_json(METRICS / "train.json", six_digits(kept.metrics()))
    checkpoint.remove()


def write_history(epochs: Sequence[Epoch]) -> None:
    """A row an epoch, anew after each."""
    write_csv(METRICS / "history.csv", [six_digits(asdict(epoch)) for epoch in epochs])


if __name__ == "__main__":
    run_stage(main)
