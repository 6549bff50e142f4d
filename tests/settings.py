"""The settings of each stage, and of all stages together."""

from mnist_pipeline.common.settings import Settings
from mnist_pipeline.raw.sources import DownloadSettings
from mnist_pipeline.runtime.arithmetic import HardwareSettings
from mnist_pipeline.splits.read import PreprocessSettings
from mnist_pipeline.training.settings import TrainSettings

STAGES: dict[str, type[Settings]] = {
    "download": DownloadSettings,
    "preprocess": PreprocessSettings,
    "train": TrainSettings,
    "evaluate": HardwareSettings,
}


class Params(DownloadSettings, PreprocessSettings, TrainSettings):
    """Everything in params.yaml."""


BLOCKS = Params.choices()
"""Each choice, and the setting that has a block per option."""
