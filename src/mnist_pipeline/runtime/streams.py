"""Random streams: one per use of random numbers and epoch."""

import hashlib


def stream_seed(seed: int, stream: str, epoch: int) -> int:
    """Seed of one random stream ("shuffle", "dropout", ...) in one epoch, in [0, 2**63).

    Separate streams do not shift each other. Reseeding each epoch lets a resumed run repeat an
    epoch without the ones before it.
    """
    digest = hashlib.sha256(f"{seed} {stream} {epoch}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1
