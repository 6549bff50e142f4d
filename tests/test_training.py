"""The loop: it learns, logs, keeps the right epoch, stops when it diverges, and repeats itself."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mnist_pipeline.augmentation import AUGMENTATIONS
from mnist_pipeline.checkpoints import Checkpoint
from mnist_pipeline.data import ImageDataset, load_split, make_loader
from mnist_pipeline.errors import UserError
from mnist_pipeline.inference import inference_loader, predict
from mnist_pipeline.losses import LOSSES
from mnist_pipeline.models import build_model
from mnist_pipeline.optimizers import build_optimizer, build_schedule
from mnist_pipeline.training import Epoch, Trainer, mean_epoch

from .test_models import SPEC
from .test_optimizers import PARAMS

CPU = torch.device("cpu")


def make_trainer(
    train: ImageDataset,
    validation: ImageDataset | None,
    *,
    epochs: int = 2,
    loss: str = "cross_entropy",
    optimizer: str = "adam",
    lr: float = 1e-3,
    dropout: float = 0.0,
    num_workers: int = 0,
    batch_size: int = 64,
    seed: int = 0,
    keep: str = "last",
    schedule: str = "constant",
    momentum: float = 0.0,
    model: str = "mlp",
    precision: str = "float32",
    augmentation: str = "none",
    label_smoothing: float = 0.0,
) -> Trainer:
    block = getattr(PARAMS.models, model).model_dump() | {"dropout": dropout}
    spec = replace(SPEC, model=model, settings=block, precision=precision)
    network = build_model(spec, seed)
    optim_settings = getattr(PARAMS.optimizers, optimizer).model_dump() | {"lr": lr}
    if momentum:
        optim_settings["momentum"] = momentum
    optim = build_optimizer(optimizer, optim_settings, network.parameters())
    loader = make_loader(train, batch_size, True, seed, num_workers)
    return Trainer(
        model=network,
        loss=LOSSES[loss],
        optimizer=optim,
        schedule=build_schedule(
            schedule, getattr(PARAMS.schedules, schedule).model_dump(), optim, epochs, len(loader)
        ),
        train_loader=loader,
        validation_loader=inference_loader(validation) if validation else None,
        device=CPU,
        epochs=epochs,
        augmentation=AUGMENTATIONS[augmentation](
            **getattr(PARAMS.augmentations, augmentation).model_dump()
        ),
        label_smoothing=label_smoothing,
        seed=seed,
        keep=keep,
        log_every=5,
    )


class Nowhere(Checkpoint):
    """Neither saves nor loads."""

    def save(self, tensors: object, values: object) -> None:
        pass


NOWHERE = Nowhere(Path("no such file"), {})


def train(trainer: Trainer, checkpoint: Checkpoint = NOWHERE) -> Epoch:
    return trainer.train(checkpoint, lambda: None)


def weights(trainer: Trainer) -> list[torch.Tensor]:
    return list(trainer.model.state_dict().values())


@pytest.fixture(scope="module")
def validation(digits_folder: Path) -> ImageDataset:
    return load_split(digits_folder, "validation")[0]


def test_it_learns_and_writes_the_tutorials_log(
    digits: ImageDataset, validation: ImageDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    histories = []
    trainer = make_trainer(digits, validation, epochs=3)
    kept = trainer.train(NOWHERE, lambda: histories.append(list(trainer.history)))
    assert [len(history) for history in histories] == [1, 2, 3]
    first, *_, last = histories[-1]
    assert kept == last
    assert last.train_loss < first.train_loss / 2
    assert last.validation_accuracy is not None
    assert last.validation_accuracy > 0.85
    out, _ = capsys.readouterr()
    steps = re.findall(r"^Epoch \[(\d)/3\], Step \[(\d+)/17\], Loss: \d+\.\d{4}$", out, re.M)
    assert steps == [(str(epoch), str(step)) for epoch in (1, 2, 3) for step in (5, 10, 15)]


def test_the_history_is_what_was_measured(digits: ImageDataset, validation: ImageDataset) -> None:
    trainer = make_trainer(digits, validation, epochs=1)
    kept = train(trainer)
    logits, labels = predict(trainer.model, inference_loader(validation), CPU)
    assert kept.validation_loss == pytest.approx(torch.nn.CrossEntropyLoss()(logits, labels).item())
    assert kept.validation_accuracy == (logits.argmax(1) == labels).double().mean().item()
    assert kept.lr == 1e-3


def test_with_a_rate_of_almost_nothing_the_means_are_those_of_the_whole_split(
    digits: ImageDataset,
) -> None:
    trainer = make_trainer(digits, None, epochs=1, optimizer="sgd", lr=1e-30)
    kept = train(trainer)
    logits, labels = predict(trainer.model, inference_loader(digits), CPU)
    assert kept.train_loss == pytest.approx(LOSSES["nll"].mean(logits, labels).item(), rel=1e-5)
    assert kept.train_accuracy == pytest.approx((logits.argmax(1) == labels).double().mean().item())
    assert kept.validation_loss is None
    assert "validation_loss" not in kept.metrics()


def test_best_keeps_the_epoch_with_the_lowest_validation_loss(
    digits: ImageDataset, validation: ImageDataset
) -> None:
    trainer = make_trainer(digits, validation, epochs=10, lr=5e-3, keep="best")
    kept = train(trainer)
    assert kept == min(trainer.history, key=lambda epoch: epoch.validation_loss or 0)
    assert kept != trainer.history[-1], "choose settings for which the last epoch isn't the best"
    logits, labels = predict(trainer.model, inference_loader(validation), CPU)
    assert kept.validation_loss == pytest.approx(LOSSES["nll"].mean(logits, labels).item())


@pytest.mark.parametrize("workers", [0, 2])
def test_validation_and_workers_do_not_change_the_training(
    digits: ImageDataset, validation: ImageDataset, workers: int
) -> None:
    plain = make_trainer(digits, None, dropout=0.5)
    train(plain)
    other = make_trainer(digits, validation, dropout=0.5, num_workers=workers)
    torch.rand(7)
    train(other)
    assert all(map(torch.equal, weights(plain), weights(other)))


def test_another_seed_is_another_training(digits: ImageDataset) -> None:
    trainers = [make_trainer(digits, None, epochs=1, seed=seed) for seed in (0, 1)]
    for trainer in trainers:
        train(trainer)
    assert not torch.equal(weights(trainers[0])[0], weights(trainers[1])[0])


def test_a_training_that_diverges_stops_and_says_where(digits: ImageDataset) -> None:
    trainer = make_trainer(digits, None, loss="mse", optimizer="sgd", lr=1e38)
    with pytest.raises(
        UserError, match=r"diverged: loss nan in epoch 1, step 2, at a learning rate"
    ):
        train(trainer)


CNN_RECIPE: dict[str, Any] = {"model": "cnn", "precision": "bfloat16", "augmentation": "affine"}


def test_the_recipe_of_a_cnn_learns_and_validates_without_augmentation(
    digits: ImageDataset, validation: ImageDataset
) -> None:
    trainer = make_trainer(
        digits, validation, epochs=4, lr=0.01, schedule="one_cycle", label_smoothing=0.1,
        **CNN_RECIPE,
    )  # fmt: skip
    kept = train(trainer)
    assert kept.validation_accuracy is not None
    assert kept.validation_loss is not None
    assert kept.validation_accuracy > 0.95
    logits, labels = predict(trainer.model, inference_loader(validation), CPU)
    plain = torch.nn.CrossEntropyLoss()(logits, labels).item()
    assert kept.validation_loss == pytest.approx(plain), "neither smoothed nor augmented"
    assert kept.train_loss > kept.validation_loss, "smoothed and augmented"


def test_the_means_over_an_ensembles_networks() -> None:
    epochs = [Epoch(2, 0.1, 0.5, 0.75, None, None), Epoch(2, 0.1, 0.25, 0.25, None, None)]
    assert mean_epoch(epochs) == Epoch(2, 0.1, 0.375, 0.5, None, None)
    assert mean_epoch(epochs[:1]) is epochs[0]


class KilledError(Exception):
    pass


@pytest.mark.parametrize(
    ("optimizer", "momentum", "schedule", "keep", "recipe"),
    [
        ("sgd", 0.0, "step", "last", {}),
        ("sgd", 0.9, "one_cycle", "best", CNN_RECIPE),
        ("adam", 0.0, "constant", "best", {}),
        ("adamw", 0.0, "cosine", "last", CNN_RECIPE),
        ("rmsprop", 0.9, "one_cycle", "last", {}),
    ],
)
def test_a_training_killed_after_each_epoch_ends_with_the_same_bits(
    digits: ImageDataset,
    validation: ImageDataset,
    tmp_path: Path,
    optimizer: str,
    momentum: float,
    schedule: str,
    keep: str,
    recipe: dict,
) -> None:
    def fresh() -> Trainer:
        return make_trainer(
            digits, validation, epochs=5, optimizer=optimizer, lr=3e-3, dropout=0.3, keep=keep,
            schedule=schedule, momentum=momentum, **recipe,
        )  # fmt: skip

    def killed_in_epoch(number: int) -> Trainer:
        trainer = fresh()
        whole = trainer.train_epoch

        def train_epoch(epoch: int) -> Epoch:
            result = whole(epoch)
            if epoch == number:
                raise KilledError
            return result

        trainer.train_epoch = train_epoch  # type: ignore[method-assign, assignment]
        return trainer

    undisturbed = fresh()
    expected = train(undisturbed)
    checkpoint = Checkpoint(tmp_path / "checkpoint.safetensors", {"params": "a"})
    for epoch in (1, 3, 4):
        with pytest.raises(KilledError):
            train(killed_in_epoch(epoch), checkpoint)
    resumed = fresh()
    kept = train(resumed, checkpoint)
    assert kept == expected
    assert resumed.history == undisturbed.history
    assert all(map(torch.equal, weights(resumed), weights(undisturbed)))
    again = fresh()
    assert train(again, checkpoint) == expected, "with nothing left to train"
    assert all(map(torch.equal, weights(again), weights(undisturbed)))


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_trains_mnist_past_95_percent(mnist_folder: Path, loss: str) -> None:
    images, _ = load_split(mnist_folder, "train")
    test, _ = load_split(mnist_folder, "test")
    trainer = make_trainer(images, None, loss=loss)
    train(trainer)
    logits, labels = predict(trainer.model, inference_loader(test), CPU)
    assert (logits.argmax(1) == labels).double().mean() > 0.95


def test_the_tutorials_experiment_reaches_its_accuracy(mnist_folder: Path) -> None:
    images, _ = load_split(mnist_folder, "train")
    test, _ = load_split(mnist_folder, "test")
    assert len(images) == 60000
    trainer = make_trainer(images, None, epochs=5, optimizer="sgd", lr=0.01)
    train(trainer)
    logits, labels = predict(trainer.model, inference_loader(test), CPU)
    assert 0.92 < (logits.argmax(1) == labels).double().mean().item() < 0.94
