"""Optimizers take every setting of params.yaml; schedules follow their formulas."""

import math

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn, optim

from mnist_pipeline.common.errors import UserError
from mnist_pipeline.common.settings import ConflictError, read_settings
from mnist_pipeline.training.optimizers import OPTIMIZERS
from mnist_pipeline.training.schedules import SCHEDULES
from mnist_pipeline.training.settings import TrainSettings

from ..conftest import CHOSEN, ROOT

PARAMS = read_settings(ROOT / "params.yaml", TrainSettings).model_copy(
    update={"model": CHOSEN["model"], "optimizer": CHOSEN["optimizer"]}
)
EPOCHS, STEPS = 4, 5
TORCHS: dict[str, type[optim.Optimizer]] = {
    "sgd": optim.SGD, "adam": optim.Adam, "adamw": optim.AdamW, "rmsprop": optim.RMSprop
}  # fmt: skip


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_takes_its_block_of_params(name: str) -> None:
    settings = PARAMS.optimizers[name]
    parameter = nn.Parameter(torch.ones(3))
    optimizer = OPTIMIZERS[name]([parameter], **settings)
    assert type(optimizer) is TORCHS[name]
    for setting, value in settings.items():
        found = optimizer.param_groups[0][setting]
        assert (list(found) if isinstance(value, list) else found) == value
    (parameter**2).sum().backward()
    optimizer.step()
    assert (parameter < 1).all()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_and_restored_state_equal_those_of_torch(name: str) -> None:
    settings = PARAMS.optimizers[name]
    ours, torchs = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    optimizer = OPTIMIZERS[name]([ours], **settings)
    expected = TORCHS[name]([torchs], **settings)
    for step in range(4):
        if step == 2:
            state = optimizer.state_dict()
            optimizer = OPTIMIZERS[name]([ours], **settings)
            optimizer.load_state_dict(state)
        for parameter, one in ((ours, optimizer), (torchs, expected)):
            one.zero_grad()
            (parameter**2).sum().backward()
            one.step()
    torch.testing.assert_close(ours, torchs)
    assert ours.requires_grad


def test_nesterov_needs_momentum() -> None:
    settings = PARAMS.optimizers["sgd"] | {"nesterov": True, "momentum": 0.0}
    with pytest.raises(UserError, match="nesterov: true needs a momentum above 0"):
        OPTIMIZERS["sgd"]([nn.Parameter(torch.ones(3))], **settings)


def learning_rates(
    name: str, epochs: int = EPOCHS, steps: int = STEPS, **settings: float
) -> list[float]:
    optimizer = optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1)
    settings = settings or PARAMS.schedules[name]
    schedule = SCHEDULES[name](optimizer, epochs, steps, **settings)
    rates = []
    for _ in range(epochs * steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


def test_every_schedule_of_params_can_be_built() -> None:
    for name in SCHEDULES:
        assert len(learning_rates(name)) == EPOCHS * STEPS


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize(("epochs", "steps"), [(1, 1), (1, 2), (2, 1)])
def test_a_run_of_one_or_two_steps_has_a_schedule(name: str, epochs: int, steps: int) -> None:
    assert all(0 < rate <= 0.1 for rate in learning_rates(name, epochs, steps))


def test_constant() -> None:
    assert set(learning_rates("constant")) == {0.1}


def test_step_falls_every_so_many_epochs() -> None:
    rates = learning_rates("step", step_size=2, gamma=0.5)
    assert rates == pytest.approx([0.1] * 2 * STEPS + [0.05] * 2 * STEPS)


def test_cosine_falls_to_its_end() -> None:
    total = EPOCHS * STEPS
    expected = [0.01 + 0.09 * (1 + math.cos(math.pi * t / total)) / 2 for t in range(total)]
    assert learning_rates("cosine", eta_min=0.01) == pytest.approx(expected)
    assert learning_rates("cosine", eta_min=0.1) == pytest.approx([0.1] * total)


def test_cosine_never_rises() -> None:
    expected = "schedules.cosine: eta_min: found 0.2, expected at most the optimizer's lr, .* 0.1"
    with pytest.raises(ConflictError, match=expected):
        learning_rates("cosine", eta_min=0.2)


def test_one_cycle_peaks_at_lr() -> None:
    rates = learning_rates("one_cycle", pct_start=0.3, div_factor=25, final_div_factor=100)
    assert rates[0] == pytest.approx(0.1 / 25)
    assert max(rates) == pytest.approx(0.1)
    assert rates.index(max(rates)) == 5
    assert rates[-1] == pytest.approx(0.1 / 25 / 100)


@given(
    pct_start=st.floats(0, 1, exclude_min=True, exclude_max=True)
    | st.integers(2, 30).map(lambda n: 1 / n),
    epochs=st.integers(1, 5),
    steps=st.integers(1, 8),
)
@example(pct_start=0.5, epochs=1, steps=1)
@example(pct_start=0.5, epochs=1, steps=2)
@example(pct_start=0.5, epochs=2, steps=1)
@example(pct_start=0.1, epochs=2, steps=5)
@settings(deadline=None)
def test_one_cycle_of_any_length(pct_start: float, epochs: int, steps: int) -> None:
    rates = learning_rates(
        "one_cycle", epochs, steps, pct_start=pct_start, div_factor=25, final_div_factor=1e4
    )
    assert all(0.1 / 25 / 1e4 * 0.999 < rate < 0.1001 for rate in rates)
    if pct_start * epochs * steps <= 1:
        assert rates[0] == 0.1, "no step is left to rise"
