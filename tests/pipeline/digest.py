"""Print the processor and the digest of a model: python -m tests.pipeline.digest MODEL."""

import hashlib
import sys
from pathlib import Path

from _processor import this_processor

from mnist_pipeline.model.tensors import load_tensors


def weights_digest(model: Path) -> str:
    """SHA-256 over the bytes of the weights in the order of their names, first twelve digits."""
    weights = load_tensors(model)[0]
    content = b"".join(weights[name].numpy().tobytes() for name in sorted(weights))
    return hashlib.sha256(content).hexdigest()[:12]


if __name__ == "__main__":
    print(f"{this_processor()}: {weights_digest(Path(sys.argv[1]))}")
