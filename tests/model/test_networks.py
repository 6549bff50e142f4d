"""Models and the file that describes one completely."""

from dataclasses import replace
from itertools import chain
from pathlib import Path

import pytest
import torch
from torch import nn

from mnist_pipeline.common.errors import UserError
from mnist_pipeline.model.files import (
    Model,
    ModelSpec,
    Normalize,
    build_model,
    check_dataset,
    load_model,
    save_model,
)
from mnist_pipeline.model.networks import ACTIVATIONS, Cnn
from mnist_pipeline.model.tensors import load_tensors, save_tensors
from mnist_pipeline.splits.batches import DatasetInfo

SPEC = ModelSpec(
    model="mlp",
    settings={"hidden_sizes": [512], "activation": "relu", "dropout": 0.0},
    classes=list("0123456789"),
    mean=0.5,
    std=0.5,
    precision="float32",
    loss="cross_entropy",
    dataset="mnist",
    shape=[1, 28, 28],
    picture="glyph",
)
IMAGES = torch.randint(0, 256, (5, 1, 28, 28), dtype=torch.uint8)


CNN = replace(
    SPEC,
    model="cnn",
    settings={
        "channels": [[4], [6, 8]],
        "kernel_size": 3,
        "pooling": "max",
        "pool_after": "first",
        "batch_norm": True,
        "activation": "relu",
        "dropout": 0.0,
        "head": [],
    },
)


def mlp(**settings: object) -> nn.Module:
    return build_model(replace(SPEC, settings={**SPEC.settings, **settings}))


@pytest.mark.parametrize(("side", "most"), [(8, 2), (28, 3), (32, 4)])
def test_as_many_blocks_as_the_image_can_be_halved(side: int, most: int) -> None:
    def build(blocks: int) -> nn.Module:
        settings = {**CNN.settings, "channels": [[1]] * blocks}
        return build_model(replace(CNN, shape=[3, side, side], settings=settings))

    build(most)(torch.zeros(1, 3, side, side))
    expected = f"models.cnn.channels: found {most + 1} blocks, expected at most {most}: each halves"
    with pytest.raises(UserError, match=expected):
        build(most + 1)


def test_normalize_equals_torchvisions() -> None:
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
    assert any(isinstance(module, type(ACTIVATIONS[activation]())) for module in model.modules())
    assert model(IMAGES).isfinite().all()


def test_dropout_is_active_in_training_only() -> None:
    model = mlp(dropout=0.5)
    assert not torch.equal(model(IMAGES), model(IMAGES))
    model.eval()
    assert torch.equal(model(IMAGES), model(IMAGES))


def cnn(**settings: object) -> Model:
    return build_model(replace(CNN, settings={**CNN.settings, **settings}))


@pytest.mark.parametrize(
    ("settings", "blocks"),
    [
        ({}, ["Conv2d MaxPool2d BatchNorm2d ReLU Dropout",
              "Conv2d MaxPool2d BatchNorm2d ReLU Conv2d BatchNorm2d ReLU Dropout"]),
        ({"pool_after": "last"}, ["Conv2d MaxPool2d BatchNorm2d ReLU Dropout",
              "Conv2d BatchNorm2d ReLU Conv2d MaxPool2d BatchNorm2d ReLU Dropout"]),
        ({"channels": [[4]], "batch_norm": False, "pooling": "average"},
         ["Conv2d AvgPool2d ReLU Dropout"]),
        ({"channels": [[4]], "dropout": 0.5, "head": [9], "activation": "gelu"},
         ["Conv2d MaxPool2d BatchNorm2d GELU Dropout"]),
        ({"channels": [[2], [3], [5]], "kernel_size": 5},
         ["Conv2d MaxPool2d BatchNorm2d ReLU Dropout"] * 3),
    ],
)  # fmt: skip
def test_a_cnn_has_the_layers_its_settings_name(settings: dict, blocks: list[str]) -> None:
    model = cnn(**settings)
    network = model.network
    assert isinstance(network, Cnn)
    kinds = [[type(layer).__name__ for layer in block.children()] for block in network.blocks]
    assert kinds == [block.split() for block in blocks]
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    channels = settings.get("channels", [[4], [6, 8]])
    assert [layer.out_channels for layer in convolutions] == list(chain(*channels))
    assert {layer.kernel_size[0] for layer in convolutions} == {settings.get("kernel_size", 3)}
    head = [layer.out_features for layer in network.modules() if isinstance(layer, nn.Linear)]
    assert head == [*settings.get("head", []), 10]
    dropouts = {layer.p for layer in network.modules() if isinstance(layer, nn.Dropout)}
    assert dropouts == {settings.get("dropout", 0.0)}
    assert model.train()(IMAGES[:1]).shape == (1, 10), "a batch of one can be trained on"


def test_pooling_first_changes_nothing_without_batch_norm() -> None:
    """relu(pool(x)) = pool(relu(x)): it is only less work."""
    first = cnn(channels=[[4]], batch_norm=False)
    assert isinstance(first.network, Cnn)
    convolution, pool, relu, _ = first.network.blocks[0].children()
    expected = first.network.head(pool(relu(convolution(first.normalize(IMAGES)))))
    assert torch.equal(first(IMAGES), expected)


def test_bfloat16_computes_in_it_and_answers_in_float32() -> None:
    exact = build_model(CNN).eval()
    low = build_model(replace(CNN, precision="bfloat16")).eval()
    seen = []
    convolution = next(layer for layer in low.modules() if isinstance(layer, nn.Conv2d))
    convolution.register_forward_hook(lambda module, inputs, out: seen.append(out.dtype))
    logits = low(IMAGES)
    assert seen == [torch.bfloat16]
    assert logits.dtype == torch.float32
    assert all(parameter.dtype == torch.float32 for parameter in low.parameters())
    assert not torch.equal(logits, exact(IMAGES))
    torch.testing.assert_close(logits, exact(IMAGES), rtol=0.05, atol=0.05)


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_a_saved_model_describes_itself(tmp_path: Path, name: str) -> None:
    path = tmp_path / "model.safetensors"
    spec = replace(SPEC if name == "mlp" else CNN, mean=0.25, loss="bce")
    model = build_model(spec).eval()
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
        {"spec": SPEC.__dict__ | {"loss": "focal"}},
        {"spec": SPEC.__dict__ | {"settings": {"layers": 3}}},
        {"spec": SPEC.__dict__ | {"settings": {**SPEC.settings, "hidden_sizes": [8]}}},
        {"spec": SPEC.__dict__ | {"classes": ["a", "b"]}},
        {"spec": SPEC.__dict__ | {"classes": ["\33[2J", *SPEC.classes[1:]]}},
    ],
)
def test_a_model_that_this_code_cannot_build_is_refused(tmp_path: Path, header: dict) -> None:
    path = tmp_path / "model.safetensors"
    save_model(path, build_model(SPEC), SPEC, {})
    save_tensors(path, load_tensors(path)[0], header)
    with pytest.raises(
        UserError, match=r"model\.safetensors: a model of an earlier version or of other code"
    ):
        load_model(path)


def test_another_dataset_and_other_classes_are_refused() -> None:
    info = DatasetInfo("mnist", SPEC.classes, 0.1, 0.3, [1, 28, 28], "glyph")
    check_dataset(SPEC, info)
    with pytest.raises(UserError, match="dataset: found digits, expected mnist, which the model"):
        check_dataset(SPEC, replace(info, name="digits"))
    with pytest.raises(UserError, match=r"classes: found \['a'\], expected \['0', "):
        check_dataset(SPEC, replace(info, classes=["a"]))
    with pytest.raises(UserError, match=r"shape: found \[3, 28, 28\], expected \[1, 28, 28\]"):
        check_dataset(SPEC, replace(info, shape=[3, 28, 28]))
    with pytest.raises(UserError, match="picture: found photo, expected glyph"):
        check_dataset(SPEC, replace(info, picture="photo"))


@pytest.mark.parametrize("spec", [SPEC, CNN], ids=["mlp", "cnn"])
@pytest.mark.parametrize("shape", [[1, 8, 8], [3, 32, 32], [3, 50, 33]], ids=str)
def test_a_network_follows_the_shape_of_the_images(spec: ModelSpec, shape: list[int]) -> None:
    model = build_model(replace(spec, shape=shape, picture="photo"))
    images = torch.randint(0, 256, (1, *shape), dtype=torch.uint8)
    assert model(images).shape == (1, 10)
