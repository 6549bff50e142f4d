"""Optimizers: torch's own, by the names in params.yaml.

To add one: a function here, with its settings as keyword-only parameters, its entry in OPTIMIZERS,
and its block in params.yaml. `fused` takes a step in one pass over the parameters.
"""

from collections.abc import Callable, Iterable
from typing import Annotated

from pydantic import Field
from torch import nn, optim

from ..common.settings import ConflictError, Fraction, NotNegative, Positive

Parameters = Iterable[nn.Parameter]
Betas = Annotated[list[Fraction], Field(min_length=2, max_length=2)]


def sgd(
    weights: Parameters,
    *,
    lr: Positive,
    momentum: Fraction,
    nesterov: bool,
    weight_decay: NotNegative,
) -> optim.Optimizer:
    """torch.optim.SGD. Raises ConflictError: Nesterov momentum without momentum."""
    if nesterov and momentum == 0:
        raise ConflictError("optimizers.sgd: nesterov: true needs a momentum above 0")
    return optim.SGD(
        weights, lr, momentum, weight_decay=weight_decay, nesterov=nesterov, fused=True
    )


def adam(
    weights: Parameters, *, lr: Positive, betas: Betas, eps: Positive, weight_decay: NotNegative
) -> optim.Optimizer:
    """torch.optim.Adam."""
    return optim.Adam(weights, lr, (betas[0], betas[1]), eps, weight_decay, fused=True)


def adamw(
    weights: Parameters, *, lr: Positive, betas: Betas, eps: Positive, weight_decay: NotNegative
) -> optim.Optimizer:
    """torch.optim.AdamW."""
    return optim.AdamW(weights, lr, (betas[0], betas[1]), eps, weight_decay, fused=True)


def rmsprop(
    weights: Parameters,
    *,
    lr: Positive,
    alpha: Fraction,
    eps: Positive,
    momentum: Fraction,
    weight_decay: NotNegative,
) -> optim.Optimizer:
    """torch.optim.RMSprop."""
    return optim.RMSprop(weights, lr, alpha, eps, weight_decay, momentum)


OPTIMIZERS: dict[str, Callable[..., optim.Optimizer]] = {
    "sgd": sgd,
    "adam": adam,
    "adamw": adamw,
    "rmsprop": rmsprop,
}
