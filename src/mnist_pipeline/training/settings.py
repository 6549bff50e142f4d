"""Settings of the train stage."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from ..common.settings import Blocks, Count, Fraction, OneOf
from ..model.losses import LOSSES
from ..model.networks import NETWORKS
from ..runtime.arithmetic import HardwareSettings
from .augmentation import AUGMENTATIONS
from .optimizers import OPTIMIZERS
from .schedules import SCHEDULES

UNTRACKED = {"num_workers", "log_every"}
"""Settings that change no result, so DVC does not track them."""

Options = dict[str, dict[str, Any]]
"""Settings of every option of a choice, by its name."""


def check_launcher(line: str) -> str:
    """Accept any command line that is not blank."""
    if not line.strip():
        raise PydanticCustomError("launcher", "a command, such as python")
    return line


class TrainSettings(HardwareSettings):
    """Settings of the train stage; params.yaml explains them."""

    model: Annotated[str, OneOf(NETWORKS)]
    models: Annotated[Options, Blocks(NETWORKS)]
    normalization: Literal["symmetric", "standard"]
    augmentation: Annotated[str, OneOf(AUGMENTATIONS)]
    augmentations: Annotated[Options, Blocks(AUGMENTATIONS)]
    loss: Annotated[str, OneOf(LOSSES)]
    label_smoothing: Fraction
    optimizer: Annotated[str, OneOf(OPTIMIZERS)]
    optimizers: Annotated[Options, Blocks(OPTIMIZERS)]
    schedule: Annotated[str, OneOf(SCHEDULES)]
    schedules: Annotated[Options, Blocks(SCHEDULES)]
    epochs: Count
    batch_size: Count
    shuffle: bool
    keep: Literal["last", "best"]
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    precision: Literal["auto", "float32", "bfloat16"]
    launcher: Annotated[str, AfterValidator(check_launcher)]
    num_workers: Annotated[int, Field(ge=0, le=256)]
    log_every: Count

    def inputs(self) -> dict[str, Any]:
        """Every setting that affects the result, with the block of each choice.

        The launcher is left out, because it may differ from host to host; `arithmetic.environment`
        records the number of processes.
        """
        blocks = self.choices()
        flat = self.model_dump(exclude=UNTRACKED | {"launcher"} | set(blocks.values()))
        return flat | {block: self.block(choice) for choice, block in blocks.items()}
