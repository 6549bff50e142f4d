"""Train the model of params.yaml: data/processed → models/model.safetensors and its metrics."""

from _stage import ROOT

from mnist_pipeline.common.errors import run_script
from mnist_pipeline.common.settings import read_settings
from mnist_pipeline.runtime.arithmetic import set_up
from mnist_pipeline.runtime.distributed import alone_in, process_group
from mnist_pipeline.training.run import train
from mnist_pipeline.training.settings import TrainSettings


def main() -> None:
    """Read params.yaml and the train and validation splits, write the model and its metrics."""
    settings = read_settings(ROOT / "params.yaml", TrainSettings)
    device = set_up(settings)
    models = ROOT / "models"
    with process_group(device, settings.launcher) as device, alone_in(models):
        train(settings, ROOT / "data/processed", models, ROOT / "metrics", device)


if __name__ == "__main__":
    run_script(main)
