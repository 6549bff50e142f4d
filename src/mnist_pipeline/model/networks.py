"""Networks: images float32 [B, C, H, W], normalized → logits float32 [B, classes].

There is no softmax in forward, because the losses contain it. To add a network: a class here, with
its settings as keyword-only parameters, its entry in NETWORKS, and its block in params.yaml.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn

from ..common.settings import ConflictError, Fraction, OneOf

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": partial(nn.ReLU, inplace=True),  # no layer before it needs its own outputs again
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "leaky_relu": nn.LeakyReLU,
    "gelu": nn.GELU,
}
POOLINGS: dict[str, Callable[[int], nn.Module]] = {"max": nn.MaxPool2d, "average": nn.AvgPool2d}

Size = Annotated[int, Field(ge=1, le=2**20)]
Block = Annotated[list[Annotated[int, Field(ge=1, le=2**16)]], Field(min_length=1)]
Activation = Annotated[str, OneOf(ACTIVATIONS)]


class Mlp(nn.Module):
    """The tutorial's multilayer perceptron: C · H · W → each hidden size → classes."""

    def __init__(
        self,
        shape: Sequence[int],
        num_classes: int,
        *,
        hidden_sizes: list[Size],
        activation: Activation,
        dropout: Fraction,
    ) -> None:
        """`shape` is that of an image, [C, H, W]."""
        super().__init__()
        sizes = [math.prod(shape), *hidden_sizes]
        self.hidden = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(sizes))
        self.output = nn.Linear(sizes[-1], num_classes)
        self.activation = ACTIVATIONS[activation]()
        self.dropout = nn.Dropout(dropout)

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, C, H, W] → logits [B, classes]."""
        x = images.flatten(1)  # [B, C · H · W]
        for layer in self.hidden:
            x = self.dropout(self.activation(layer(x)))  # [B, hidden size]
        return self.output(x)  # [B, classes]


class Cnn(nn.Module):
    """A convolutional network: blocks of convolutions, then the layers of an Mlp.

    `channels` has one list per block, with one entry per convolution. Each block halves the image:
    after its first convolution (`pool_after` "first"), which makes the following ones four times
    cheaper (Keller Jordan, 94% on CIFAR-10 in 3.29 Seconds, arXiv:2404.00498), or after its last
    one, which is more accurate.
    """

    def __init__(
        self,
        shape: Sequence[int],
        num_classes: int,
        *,
        channels: Annotated[list[Block], Field(min_length=1)],
        kernel_size: Literal[1, 3, 5, 7, 9],
        pooling: Annotated[str, OneOf(POOLINGS)],
        pool_after: Literal["first", "last"],
        batch_norm: bool,
        activation: Activation,
        dropout: Fraction,
        head: list[Size],
    ) -> None:
        """`shape` is that of an image, [C, H, W]. Raises ConflictError: too many blocks for it."""
        super().__init__()
        inputs, height, width = shape
        check_blocks(len(channels), height, width)
        self.blocks = nn.ModuleList()
        for sizes in channels:
            layers: list[nn.Module] = []
            for index, outputs in enumerate(sizes):
                layers.append(
                    nn.Conv2d(inputs, outputs, kernel_size, padding="same", bias=not batch_norm)
                )
                if index == (0 if pool_after == "first" else len(sizes) - 1):
                    layers.append(POOLINGS[pooling](2))
                if batch_norm:
                    layers.append(nn.BatchNorm2d(outputs))
                layers.append(ACTIVATIONS[activation]())
                inputs = outputs
            self.blocks.append(nn.Sequential(*layers, nn.Dropout(dropout)))
        last = [inputs, height >> len(channels), width >> len(channels)]  # shape after the blocks
        self.head = Mlp(
            last, num_classes, hidden_sizes=head, activation=activation, dropout=dropout
        )

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, C, H, W] → logits [B, classes]."""
        x = images
        for block in self.blocks:
            x = block(x)  # [B, channels, H / 2, W / 2], of the block before
        return self.head(x)  # [B, classes]


def check_blocks(blocks: int, height: int, width: int) -> None:
    """Raise ConflictError if halving an image once per block leaves less than 2 pixels per side.

    Batch normalization cannot train on a batch of one image of one pixel.
    """
    most = min(height, width).bit_length() - 2
    if blocks > most:
        raise ConflictError(
            f"models.cnn.channels: found {blocks} blocks, expected at most {most}: each halves the"
            f" image, and {height} × {width} pixels have to leave 2 per side"
        )


NETWORKS: dict[str, Callable[..., nn.Module]] = {"mlp": Mlp, "cnn": Cnn}
