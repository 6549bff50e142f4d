"""Optimizers take every setting of params.yaml; schedules follow their formulas."""

import math
import subprocess
import sys

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from mnist_pipeline.common.params import Optimizers, Schedules, TrainParams, read_params
from mnist_pipeline.training.optimizers import (
    OPTIMIZERS,
    build_optimizer,
    build_schedule,
    without_compiler,
)

from ..conftest import CHOSEN, ROOT

PARAMS = read_params(ROOT / "params.yaml", TrainParams).model_copy(
    update={"model": CHOSEN["model"], "optimizer": CHOSEN["optimizer"]}
)
EPOCHS, STEPS = 4, 5


@pytest.mark.parametrize("name", Optimizers.model_fields)
def test_every_optimizer_takes_its_block_of_params(name: str) -> None:
    settings = getattr(PARAMS.optimizers, name).model_dump()
    parameter = nn.Parameter(torch.ones(3))
    optimizer = build_optimizer(name, settings, [parameter])
    assert isinstance(optimizer, OPTIMIZERS[name])
    for setting, value in settings.items():
        found = optimizer.param_groups[0][setting]
        assert (list(found) if isinstance(value, list) else found) == value
    (parameter**2).sum().backward()
    optimizer.step()
    assert (parameter < 1).all()


@pytest.mark.parametrize("name", Optimizers.model_fields)
def test_steps_and_restored_state_equal_those_of_torch(name: str) -> None:
    settings = getattr(PARAMS.optimizers, name).model_dump()
    ours, torchs = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    optimizer = build_optimizer(name, settings, [ours])
    expected = OPTIMIZERS[name]([torchs], **settings)
    for step in range(4):
        if step == 2:
            state = optimizer.state_dict()
            optimizer = build_optimizer(name, settings, [ours])
            optimizer.load_state_dict(state)
        for parameter, one in ((ours, optimizer), (torchs, expected)):
            one.zero_grad()
            (parameter**2).sum().backward()
            one.step()
    torch.testing.assert_close(ours, torchs)
    assert ours.requires_grad


def test_an_optimizer_that_cannot_be_unwrapped_stays_as_it_is() -> None:
    class Unusual(torch.optim.SGD):
        """Its step only works through its wrapper, as that of another torch might."""

        def step(self, closure: None = None) -> None:  # type: ignore[override]
            super().step(closure)

        step.__wrapped__ = lambda self: None  # type: ignore[attr-defined]

    assert without_compiler(Unusual) is Unusual
    assert without_compiler(torch.optim.SGD) is not torch.optim.SGD


def test_no_training_imports_the_compiler() -> None:
    code = """
import sys
sys.path.insert(0, "src")
import torch
from torch.optim.lr_scheduler import ConstantLR
from mnist_pipeline.training.optimizers import OPTIMIZERS, build_optimizer
for name in OPTIMIZERS:
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = build_optimizer(name, {"lr": 0.1}, [weight])
    schedule = ConstantLR(optimizer)
    weight.sum().backward()
    optimizer.step()
    schedule.step()
    optimizer.zero_grad()
    optimizer.load_state_dict(optimizer.state_dict())
assert "torch._dynamo" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def learning_rates(
    name: str, epochs: int = EPOCHS, steps: int = STEPS, **settings: float
) -> list[float]:
    optimizer = build_optimizer("sgd", {"lr": 0.1}, [nn.Parameter(torch.ones(1))])
    settings = settings or getattr(PARAMS.schedules, name).model_dump()
    schedule = build_schedule(name, settings, optimizer, epochs, steps)
    rates = []
    for _ in range(epochs * steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


def test_every_schedule_of_params_can_be_built() -> None:
    for name in Schedules.model_fields:
        assert len(learning_rates(name)) == EPOCHS * STEPS
    with pytest.raises(ValueError, match="linear"):
        learning_rates("linear", gamma=1)


@pytest.mark.parametrize("name", Schedules.model_fields)
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
