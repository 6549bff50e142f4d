"""Print the test accuracy of each network of an ensemble, measured alone."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

import torch

from mnist_pipeline.data import load_split
from mnist_pipeline.inference import inference_loader, predict
from mnist_pipeline.models import load_model
from mnist_pipeline.runtime import deterministic


def main() -> None:
    """Read the model and the test split."""
    deterministic()
    model, _ = load_model(ROOT / "models/model.safetensors")
    test_set, _ = load_split(ROOT / "data/processed", "test")
    for member in model.children():
        logits, labels = predict(member, inference_loader(test_set), torch.device("cpu"))
        print((logits.argmax(1) == labels).double().mean().item())


if __name__ == "__main__":
    main()
