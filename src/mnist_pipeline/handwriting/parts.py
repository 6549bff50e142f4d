"""Decide which connected parts of a mask are drawings, and which belong together."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

EIGHT = np.ones((3, 3), bool)
"""Structure that connects a pixel to its eight neighbours."""

# Lengths are fractions of the picture's longer side, all chosen with tests/handwriting/pictures.py.
SPECK = 0.01
"""Side of the largest square that is a speck."""
GAP = 1 / 130
"""Half of the widest gap, as a thin pen leaves, that does not separate parts."""
CONTACT = 0.2
"""Contact with the edge of the picture from which a part is a table and no stroke."""
INNER, FRAMED = 0.1, 0.15
"""Smallest size of what makes parts at the edge, or around it, superfluous."""

# Fractions of the largest part.
TALL = 0.6
"""Height from which another part is a drawing of its own."""
NOTICEABLE, SUBSTANTIAL = 0.01, 0.25
"""Area of a part that is no speck; of several small parts that may be a drawing."""
NEAR, TOGETHER = 0.3, 0.15
"""Distance at which a small part belongs to a drawing, and to other small parts."""
OVERLAP = 0.3
"""Of the widths, from which a part lies above or below another and not beside it."""
MOST_PIECES = 4
"""Of a drawing that has no tall part; more of them are the grain of a table."""


@dataclass
class Part:
    """Connected pixels, or several such parts."""

    labels: list[int]
    area: int
    contact: int  # pixels on the edge of the picture
    top: int
    bottom: int
    left: int
    right: int

    @property
    def height(self) -> int:
        """Pixels from top to bottom."""
        return self.bottom - self.top

    @property
    def width(self) -> int:
        """Pixels from left to right."""
        return self.right - self.left

    @property
    def size(self) -> int:
        """The larger of width and height."""
        return max(self.height, self.width)

    def gap(self, other: "Part") -> int:
        """Pixels between the bounding boxes."""
        return max(
            self.left - other.right,
            other.left - self.right,
            self.top - other.bottom,
            other.top - self.bottom,
            0,
        )

    def overlap(self, other: "Part") -> float:
        """Fraction of the narrower one's width that lies above or below the other."""
        common = min(self.right, other.right) - max(self.left, other.left)
        return common / min(self.width, other.width)

    def surrounds(self, other: "Part") -> bool:
        """Whether the other lies within the bounding box."""
        return (
            self.top < other.top
            and other.bottom < self.bottom
            and self.left < other.left
            and other.right < self.right
        )

    def add(self, other: "Part") -> None:
        """Include another part."""
        self.labels += other.labels
        self.area += other.area
        self.contact += other.contact
        self.top, self.left = min(self.top, other.top), min(self.left, other.left)
        self.bottom, self.right = max(self.bottom, other.bottom), max(self.right, other.right)


def group(mask: np.ndarray) -> list[np.ndarray]:
    """Masks of the drawings in a mask [H, W], from left to right.

    What lies along the edge, frames and specks are left out if there is anything else.
    """
    side = max(mask.shape)
    labels, parts = find_parts(mask)
    parts = drop_surroundings(parts, side)
    if len(parts) > 1:  # bridge gaps only now: a drawing may nearly touch its frame
        labels, parts = find_parts(select_labels(labels, parts), gap=GAP * side)
    drawings = sorted(assemble(parts), key=lambda drawing: drawing.left)
    return [select_labels(labels, [drawing]) for drawing in drawings]


def select_labels(labels: np.ndarray, parts: list[Part]) -> np.ndarray:
    """Mask [H, W] of some parts."""
    chosen = np.zeros(labels.max() + 1, bool)
    chosen[[label for part in parts for label in part.labels]] = True
    return chosen[labels]


def find_parts(mask: np.ndarray, gap: float = 0) -> tuple[np.ndarray, list[Part]]:
    """Label [H, W] the connected parts; list those that are larger than a speck.

    Gaps of up to twice `gap` pixels do not separate parts.
    """
    side = max(mask.shape)
    bridged = ndimage.maximum_filter(mask, 2 * int(gap) + 1) if gap >= 1 else mask
    labels, count = ndimage.label(bridged, EIGHT)
    labels[~mask] = 0
    areas, contacts = (
        np.bincount(pixels.ravel(), minlength=count + 1).tolist()
        for pixels in (labels, labels[edge_of(mask.shape)])
    )
    return labels, [
        Part(
            [label],
            areas[label],
            contacts[label],
            rows.start,
            rows.stop,
            columns.start,
            columns.stop,
        )
        for label, (rows, columns) in enumerate(ndimage.find_objects(labels), 1)
        if areas[label] > (SPECK * side) ** 2
    ]


def edge_of(shape: tuple[int, ...]) -> np.ndarray:
    """Mask of the outermost pixels."""
    edge = np.ones(shape, bool)
    edge[1:-1, 1:-1] = False
    return edge


def drop_surroundings(parts: list[Part], side: int) -> list[Part]:
    """Leave out frames, and tables and bars along the edge of a picture with this longer side."""
    inner = [part.size for part in parts if not part.contact and part.size > INNER * side]
    if inner:
        # A stroke that is cut off by the edge is short there; a table is not.
        parts = [
            part
            for part in parts
            if not part.contact or (part.contact < CONTACT * side and part.size > 2 * max(inner))
        ]
    large = [part for part in parts if part.size > FRAMED * side]
    return [part for part in parts if not any(part.surrounds(other) for other in large)]


def assemble(parts: list[Part]) -> list[Part]:
    """Join parts to drawings: those about as high as the largest part, and what is near them."""
    if not parts:
        return []
    largest = max(parts, key=lambda part: part.area)
    tall = TALL * largest.height
    drawings: list[Part] = []
    small: list[Part] = []
    for part in sorted(parts, key=lambda part: -part.area):
        above = [drawing for drawing in drawings if drawing.overlap(part) > OVERLAP]
        if part.area < NOTICEABLE * largest.area:
            continue
        if part.height <= tall:
            small.append(part)
        elif above:  # a broken stroke
            above[0].add(part)
        else:
            drawings.append(part)
    for part in join(small, TOGETHER * largest.size):
        nearest = min(drawings, key=part.gap)
        above = [drawing for drawing in drawings if drawing.overlap(part) > OVERLAP]
        if (
            part.height > tall
            and part.area > SUBSTANTIAL * largest.area
            and len(part.labels) <= MOST_PIECES
            and not above
        ):
            drawings.append(part)  # a digit in several parts
        elif part.gap(nearest) <= NEAR * nearest.size:
            nearest.add(part)
    return drawings


def join(parts: list[Part], distance: float) -> list[Part]:
    """Join parts with at most `distance` pixels between them."""
    joined: list[Part] = []
    for part in parts:
        near = [other for other in joined if other.gap(part) <= distance]
        joined = [other for other in joined if other not in near]
        for other in near:
            part.add(other)
        joined.append(part)
    return joined
