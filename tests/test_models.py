"""Models and the file that describes one completely."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from mnist_pipeline.errors import UserError
from mnist_pipeline.models import (
    ACTIVATIONS,
    MODELS,
    ModelSpec,
    Normalize,
    build_model,
    load_model,
    save_model,
)
from mnist_pipeline.params import Models
from mnist_pipeline.tensorfiles import load_tensors, save_tensors

SPEC = ModelSpec(
    model="mlp",
    settings={"hidden_sizes": [512], "activation": "relu", "dropout": 0.0},
    classes=list("0123456789"),
    mean=0.5,
    std=0.5,
    loss="cross_entropy",
    dataset="mnist",
)
IMAGES = torch.randint(0, 256, (5, 1, 28, 28), dtype=torch.uint8)


def mlp(**settings: object) -> nn.Module:
    return build_model(replace(SPEC, settings={**SPEC.settings, **settings}))


def test_every_model_of_params_can_be_built() -> None:
    assert set(MODELS) == set(Models.model_fields)


def test_normalize_is_torchvisions() -> None:
    from torchvision.transforms.v2.functional import normalize, to_dtype

    expected = normalize(to_dtype(IMAGES, torch.float32, scale=True), [0.1307], [0.3081])
    torch.testing.assert_close(Normalize(0.1307, 0.3081)(IMAGES), expected)
    ends = Normalize(0.5, 0.5)(torch.tensor([0, 255], dtype=torch.uint8))
    torch.testing.assert_close(ends, torch.tensor([-1.0, 1.0]))


def test_the_default_is_the_tutorials_net() -> None:
    weights = mlp().state_dict()
    shapes = [tuple(tensor.shape) for tensor in weights.values()]
    assert shapes == [(512, 784), (512,), (10, 512), (10,)]
    hidden, hidden_bias, out, out_bias = weights.values()
    x = (IMAGES.view(-1, 28 * 28) / 255 - 0.5) / 0.5
    expected = torch.relu(x @ hidden.T + hidden_bias) @ out.T + out_bias
    logits = build_model(SPEC)
    logits.load_state_dict(weights)
    torch.testing.assert_close(logits(IMAGES), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("hidden_sizes", [[], [500], [64, 32, 16]])
def test_any_list_of_hidden_sizes(hidden_sizes: list[int]) -> None:
    model = mlp(hidden_sizes=hidden_sizes)
    linears = [module for module in model.modules() if isinstance(module, nn.Linear)]
    assert [linear.out_features for linear in linears] == [*hidden_sizes, 10]
    assert model(IMAGES).shape == (5, 10)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations(activation: str) -> None:
    model = mlp(activation=activation)
    assert any(isinstance(module, ACTIVATIONS[activation]) for module in model.modules())  # type: ignore[arg-type]
    assert model(IMAGES).isfinite().all()


def test_dropout_works_in_training_alone() -> None:
    model = mlp(dropout=0.5)
    assert not torch.equal(model(IMAGES), model(IMAGES))
    model.eval()
    assert torch.equal(model(IMAGES), model(IMAGES))


def test_a_saved_model_describes_itself(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    spec = replace(SPEC, settings={**SPEC.settings, "hidden_sizes": [8]}, mean=0.25, loss="bce")
    model = build_model(spec)
    save_model(path, model, spec, {"torch": "2"})
    loaded, loaded_spec = load_model(path)
    assert loaded_spec == spec
    assert torch.equal(loaded(IMAGES), model(IMAGES))
    assert not loaded.training


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"spec": None},
        {"spec": {"model": "mlp"}},
        {"spec": SPEC.__dict__ | {"model": "transformer"}},
        {"spec": SPEC.__dict__ | {"settings": {"layers": 3}}},
        {"spec": SPEC.__dict__ | {"settings": {**SPEC.settings, "hidden_sizes": [8]}}},
        {"spec": SPEC.__dict__ | {"classes": ["a", "b"]}},
    ],
)
def test_a_model_that_this_code_cannot_build_is_refused(tmp_path: Path, header: dict) -> None:
    path = tmp_path / "model.safetensors"
    save_model(path, build_model(SPEC), SPEC, {})
    weights = {name: tensor.numpy() for name, tensor in load_tensors(path, "train")[0].items()}
    save_tensors(path, weights, header)
    with pytest.raises(UserError, match=r"model\.safetensors: not a model of this code"):
        load_model(path)
