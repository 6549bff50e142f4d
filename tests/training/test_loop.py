"""The loop: it learns, logs, keeps the right epoch, stops when it diverges, and repeats itself."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from mnist_pipeline.common.errors import UserError
from mnist_pipeline.model.files import build_model
from mnist_pipeline.model.inference import inference_loader, predict_logits
from mnist_pipeline.model.losses import LOSSES
from mnist_pipeline.runtime.distributed import all_gather, rank
from mnist_pipeline.splits.batches import DatasetInfo, ImageDataset, load_split
from mnist_pipeline.training.checkpoints import Checkpoint
from mnist_pipeline.training.history import Epoch
from mnist_pipeline.training.loop import Trainer
from mnist_pipeline.training.run import build_spec, build_trainer
from mnist_pipeline.training.settings import TrainSettings

from ..ranks import run_ranks
from .test_optimizers import PARAMS, learning_rates

CPU = torch.device("cpu")


def make_trainer(
    train: ImageDataset,
    validation: ImageDataset | None,
    *,
    lr: float = 1e-3,
    dropout: float = 0.0,
    momentum: float = 0.0,
    **settings: Any,
) -> Trainer:
    """A trainer as the train stage builds it, with some settings of params.yaml replaced."""
    params = PARAMS.model_dump()
    params |= {"epochs": 2, "optimizer": "adam", "log_every": 5} | settings
    params["optimizers"][params["optimizer"]]["lr"] = lr
    params["models"][params["model"]]["dropout"] = dropout
    if momentum:
        params["optimizers"][params["optimizer"]]["momentum"] = momentum
    checked = TrainSettings.model_validate(params)
    info = DatasetInfo("mnist", list("0123456789"), 0.5, 0.5, [1, 28, 28], "glyph")
    network = build_model(build_spec(checked, info, CPU), checked.seed)
    nothing = ImageDataset(train.data[:0], train.labels[:0])
    return build_trainer(checked, network, train, validation or nothing, CPU)


class Nowhere(Checkpoint):
    """Neither saves nor loads."""

    def save(self, run: Trainer) -> None:
        pass


NOWHERE = Nowhere(Path("no such file"), {})


def train(trainer: Trainer, checkpoint: Checkpoint = NOWHERE) -> Epoch:
    return trainer.train(checkpoint, lambda: None)


def weights(trainer: Trainer) -> list[torch.Tensor]:
    return list(trainer.model.state_dict().values())


@pytest.fixture(scope="module")
def validation(digits_folder: Path) -> ImageDataset:
    return load_split(digits_folder, "validation")


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
    logits, labels = predict_logits(trainer.model, inference_loader(validation), CPU)
    assert kept.validation_loss == pytest.approx(torch.nn.CrossEntropyLoss()(logits, labels).item())
    assert kept.validation_accuracy == (logits.argmax(1) == labels).double().mean().item()
    assert kept.lr == 1e-3


def test_the_learning_rate_of_an_epoch_is_its_mean(digits: ImageDataset) -> None:
    cycle = make_trainer(digits, None, epochs=1, schedule="one_cycle", lr=0.01)
    rates = learning_rates("one_cycle", 1, len(cycle.train_loader))
    assert train(cycle).lr == pytest.approx(sum(rates) / len(rates) / 10)  # theirs peak at 0.1
    for batch_size in (7, 64, 97):
        constant = make_trainer(digits, None, epochs=1, batch_size=batch_size, lr=0.01)
        assert train(constant).lr == 0.01


def test_with_a_tiny_learning_rate_the_means_are_those_of_the_split(
    digits: ImageDataset,
) -> None:
    trainer = make_trainer(digits, None, epochs=1, optimizer="sgd", lr=1e-30)
    kept = train(trainer)
    logits, labels = predict_logits(trainer.model, inference_loader(digits), CPU)
    assert kept.train_loss == pytest.approx(LOSSES["nll"]()(logits, labels).item(), rel=1e-5)
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
    logits, labels = predict_logits(trainer.model, inference_loader(validation), CPU)
    assert kept.validation_loss == pytest.approx(LOSSES["nll"]()(logits, labels).item())


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


def test_another_seed_gives_another_run(digits: ImageDataset) -> None:
    trainers = [make_trainer(digits, None, epochs=1, seed=seed) for seed in (0, 1)]
    for trainer in trainers:
        train(trainer)
    assert not torch.equal(weights(trainers[0])[0], weights(trainers[1])[0])


def test_a_diverging_run_stops_and_says_where(digits: ImageDataset) -> None:
    trainer = make_trainer(digits, None, loss="mse", optimizer="sgd", lr=1e38)
    with pytest.raises(
        UserError, match=r"diverged: loss nan in epoch 1, step 2, at a learning rate"
    ):
        train(trainer)


def test_a_diverging_step_is_named_with_its_own_learning_rate(digits: ImageDataset) -> None:
    trainer = make_trainer(
        digits, None, epochs=1, log_every=17, optimizer="sgd", lr=1e38, schedule="one_cycle"
    )
    second = f"{1e39 * learning_rates('one_cycle', 1, 17)[1]:g}"  # theirs peak at 0.1
    with pytest.raises(UserError) as caught:
        train(trainer)
    assert f"in epoch 1, step 2, at a learning rate of {second};" in str(caught.value)


@pytest.mark.parametrize(("keep", "validated"), [("best", True), ("last", True), ("last", False)])
def test_a_run_that_diverges_in_its_last_step_stops_too(
    digits: ImageDataset, validation: ImageDataset, keep: str, validated: bool
) -> None:
    trainer = make_trainer(
        digits, validation if validated else None, epochs=1, batch_size=5000, optimizer="sgd",
        lr=1e38, keep=keep,
    )  # fmt: skip
    with pytest.raises(UserError, match="diverged: loss nan after epoch 1, at a learning rate"):
        train(trainer)
    assert trainer.history == []
    assert trainer.best_weights == {}


CNN: dict[str, Any] = {"model": "cnn", "augmentation": "affine"}


def test_the_recipe_of_a_cnn_learns_and_validates_without_augmentation(
    digits: ImageDataset, validation: ImageDataset
) -> None:
    trainer = make_trainer(
        digits, validation, epochs=4, lr=0.01, schedule="one_cycle", label_smoothing=0.1,
        precision="bfloat16", **CNN,
    )  # fmt: skip
    kept = train(trainer)
    assert kept.validation_accuracy is not None
    assert kept.validation_loss is not None
    assert kept.validation_accuracy > 0.95
    logits, labels = predict_logits(trainer.model, inference_loader(validation), CPU)
    plain = torch.nn.CrossEntropyLoss()(logits, labels).item()
    assert kept.validation_loss == pytest.approx(plain), "neither smoothed nor augmented"
    assert kept.train_loss > kept.validation_loss, "smoothed and augmented"


def test_ranks_average_the_statistics_of_batch_normalization_alone(digits_folder: Path) -> None:
    run_ranks(2, check_buffers, digits_folder)


def check_buffers(folder: Path) -> None:
    """On each rank: train an epoch, from a constant that is the rank's own."""
    trainer = make_trainer(load_split(folder, "train"), None, batch_size=200, **CNN)
    shift = next(trainer.model.buffers())  # of Normalize
    shift.fill_(rank())
    trainer.train_epoch(1)
    assert shift == rank()
    statistics = [buffer for name, buffer in trainer.model.named_buffers() if "running" in name]
    assert statistics
    for buffer in statistics:
        first, second = all_gather(buffer.sum().item())
        assert first == second


class KilledError(Exception):
    pass


@pytest.mark.parametrize(
    ("optimizer", "momentum", "schedule", "keep", "recipe"),
    [
        ("sgd", 0.0, "step", "last", {}),
        ("sgd", 0.9, "one_cycle", "best", CNN),
        ("adam", 0.0, "constant", "best", {}),
        ("adamw", 0.0, "cosine", "last", CNN),
        ("rmsprop", 0.9, "one_cycle", "last", {}),
    ],
)
def test_a_run_killed_after_each_epoch_ends_with_the_same_bits(
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

        trainer.train_epoch = train_epoch  # type: ignore[method-assign]
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
def test_every_loss_learns_mnist(mnist_folder: Path, loss: str) -> None:
    images, labels = load_split(mnist_folder, "train")[:20_000]
    trainer = make_trainer(ImageDataset(images, labels), None, loss=loss)
    train(trainer)
    logits, actual = predict_logits(
        trainer.model, inference_loader(load_split(mnist_folder, "test")), CPU
    )
    assert (logits.argmax(1) == actual).double().mean() > 0.9
