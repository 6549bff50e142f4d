"""Padded layers compute what torch's own do, and take their place."""

import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from mnist_pipeline.model.networks import Mlp
from mnist_pipeline.runtime.device import prepare_model
from mnist_pipeline.runtime.portable import PaddedLinear, padded

CPU = torch.device("cpu")


@settings(max_examples=50, deadline=None)
@example(batch=256, columns=200, rows=257, training=True)
@given(
    batch=st.integers(1, 300),
    columns=st.integers(1, 300),
    rows=st.integers(1, 300),
    training=st.booleans(),
)
def test_a_padded_layer_computes_what_torchs_does(
    batch: int, columns: int, rows: int, training: bool
) -> None:
    for size in (batch, columns, rows):
        assert size <= padded(size) not in {*range(16), *range(193, 258)}
    layer = PaddedLinear(columns, rows).train(training)
    inputs = torch.randn(batch, columns, requires_grad=True)
    weights = torch.randn(batch, rows)
    parameters = (inputs, layer.weight, layer.bias)
    found, expected = (
        [outputs, *torch.autograd.grad((outputs * weights).sum(), parameters)]
        for outputs in (layer(inputs), F.linear(*parameters))
    )
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_portable_arithmetic_alone_pads() -> None:
    def prepared(arithmetic: str) -> nn.Module:
        torch.manual_seed(0)
        network = Mlp([1, 4, 4], 10, hidden_sizes=[8, 20], activation="relu", dropout=0.0)
        return prepare_model(network, arithmetic, CPU, [1, 4, 4])

    portable, native = prepared("portable"), prepared("native")
    kinds = {type(layer) for layer in portable.modules() if isinstance(layer, nn.Linear)}
    assert kinds == {PaddedLinear}
    assert not any(isinstance(layer, PaddedLinear) for layer in native.modules())
    assert portable.state_dict().keys() == native.state_dict().keys()
    images = torch.randn(3, 1, 4, 4)
    torch.testing.assert_close(portable(images), native(images))
    weights = list(portable.parameters())
    portable(images).sum().backward()
    assert all(weight.grad is not None for weight in weights), "the weights are the same objects"


def test_any_linear_layer_is_padded_and_computes_the_same() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(20, 20, bias=False)
            self.again = self.first
            self.attention = nn.MultiheadAttention(20, 2, batch_first=True)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            x = self.again(self.first(inputs))
            return self.attention(x, x, x)[0]

    net = Net().eval()
    inputs = torch.randn(4, 300, 20)
    expected = net(inputs), net(inputs[:, 0:1]), net.first(inputs[0, 0])
    prepare_model(net, "portable", CPU, [300, 20])
    assert {type(net.first), type(net.again)} == {PaddedLinear}
    assert not net.first.training
    found = net(inputs), net(inputs[:, 0:1]), net.first(inputs[0, 0])
    torch.testing.assert_close(found, expected)
