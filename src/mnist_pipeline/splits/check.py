"""What makes the metrics of the splits doubtful: missing classes, repeated images."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

MOST_NAMES = 10
"""Class names in a line."""


def doubts(
    labels: Mapping[str, np.ndarray], digests: Mapping[str, np.ndarray], classes: Sequence[str]
) -> Iterator[str]:
    """Yield a line on each doubt; `labels` and `digests` are of the images of each split.

    Classes without images, images that are also in an earlier split, and equal images with
    different labels.
    """
    yield from _missing(labels, classes)
    yield from _repeated(digests)
    yield from _contradictory(
        np.concatenate([*labels.values()]), np.concatenate([*digests.values()]), classes
    )


def _missing(labels: Mapping[str, np.ndarray], classes: Sequence[str]) -> Iterator[str]:
    counts = {name: np.bincount(each, minlength=len(classes)) for name, each in labels.items()}
    remarks = {
        "train": "which the model cannot learn",
        "validation": "which have too few training images to spare one, or came without",
        "test": "which the metrics leave out",
    }
    for name, count in counts.items():
        missing = np.flatnonzero(count == 0)
        if len(missing):
            shown = ", ".join(classes[label] for label in missing[:MOST_NAMES])
            more = ", ..." * (len(missing) > MOST_NAMES)
            found = f"no {name} image of {len(missing)} of {len(classes)} classes"
            yield f"{found}, {remarks[name]}: {shown}{more}"


def _repeated(digests: Mapping[str, np.ndarray]) -> Iterator[str]:
    names = list(digests)
    for number, name in enumerate(names[1:], 1):
        earlier = np.concatenate([digests[each] for each in names[:number]])
        count = np.isin(digests[name], earlier).sum()
        if count:
            where = " or ".join(names[:number])
            yield f"{count} of {len(digests[name])} {name} images are also in {where}"


def _contradictory(
    labels: np.ndarray, digests: np.ndarray, classes: Sequence[str]
) -> Iterator[str]:
    order = np.lexsort((labels, digests))  # equal images are neighbours
    labels, digests = labels[order], digests[order]
    (found,) = np.nonzero((digests[1:] == digests[:-1]) & (labels[1:] != labels[:-1]))
    if len(found):
        count = np.isin(digests, digests[found]).sum()
        first, second = (classes[labels[found[0] + step]] for step in (0, 1))
        yield f"{count} images are equal to one of another class, such as {first} and {second}"
