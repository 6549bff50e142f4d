"""Train the tutorial's network by hand, without DVC and params.yaml: python tools/by_hand.py

VS Code, Spyder and Jupyter show the file in cells, to run and change one by one. As it is, it ends
with the errors of the default settings. It needs the splits: dvc repro preprocess
"""

# %% The data
import argparse
import sys

from _tool import ROOT

import torch
from torch import Tensor, nn

from mnist_pipeline.common.errors import UserError
from mnist_pipeline.model.files import Normalize
from mnist_pipeline.model.inference import inference_loader, predict_logits
from mnist_pipeline.runtime.arithmetic import HardwareSettings, set_up
from mnist_pipeline.runtime.device import prepare_model
from mnist_pipeline.splits.batches import load_info, load_split, make_loader

# Only --help: where cells are run, the arguments are those of the kernel.
argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0]).parse_known_args()
hardware = HardwareSettings(arithmetic="portable", device="auto", threads="auto")
device = set_up(hardware)
try:
    info = load_info(ROOT / "data/processed")
    train_set = load_split(ROOT / "data/processed", "train").to(device)
    test_set = load_split(ROOT / "data/processed", "test").to(device)
except UserError as error:
    sys.exit(f"error: {error}")
channels, height, width = info.shape
loader = make_loader(train_set, batch_size=64, shuffle=True)
print(f"{len(loader)} batches; a batch:", *(tensor.shape for tensor in next(iter(loader))))


# %% The network: 784 → 512 → 10
class Net(nn.Module):
    """The network of the tutorial's practice project."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(channels * height * width, 512)
        self.output = nn.Linear(512, len(info.classes))

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, C, H, W] → logits [B, classes]."""
        x = images.flatten(1)  # [B, 784]
        x = torch.relu(self.hidden(x))  # [B, 512]
        return self.output(x)  # [B, classes]


torch.manual_seed(0)
normalized = nn.Sequential(Normalize(mean=0.5, std=0.5), Net())
model = prepare_model(normalized, hardware.arithmetic, device, info.shape)
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

# %% The loop
for epoch in range(1, 6):
    loader.sampler.set_epoch(epoch)  # each has an order of its own
    for images, labels in loader:
        logits = model(images)  # [B, classes]
        loss = criterion(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"Epoch [{epoch}/5], loss of the last batch: {loss.item():.4f}")

# %% The test
logits, labels = predict_logits(model, inference_loader(test_set), device)
errors = int((logits.argmax(1) != labels).sum())
print(f"{errors} errors in {len(labels)} test images, accuracy {1 - errors / len(labels):.2%}")
