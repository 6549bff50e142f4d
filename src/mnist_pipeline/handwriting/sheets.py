"""Find sheets of paper on a table, between the bars of a letterbox or in transparent margins."""

import numpy as np
from PIL import Image
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError

from .parts import EIGHT, edge_of

GRID = 36
"""Pixels on the longer side of the reduced copy in which sheets and backgrounds are found."""
TWO_COLOURS = 0.85
"""Smallest fraction of the variance that a sheet and a table explain."""
MIN_DISTANCE = 12
"""Smallest standard deviation between them, each channel 0 to 255."""
MIN_AREA = 0.12
"""Of a sheet, as a fraction of the picture."""
RECTANGULAR = 0.86
"""Smallest fraction of the rectangle around it that a sheet covers; an ellipse covers 0.79."""
MAX_CONTACT = 0.85
"""Of a sheet with the edge of the picture: what is nearly all round a drawing is its paper."""


def reduce(pixels: np.ndarray) -> np.ndarray:
    """A copy of GRID pixels at most on the longer side: float32 [h, w, 3]."""
    scale = min(1, GRID / max(pixels.shape))
    size = [max(1, round(length * scale)) for length in pixels.shape[1::-1]]
    channels = (Image.fromarray(pixels[..., channel]) for channel in range(3))
    return np.stack([np.asarray(c.resize(size, Image.Resampling.BOX)) for c in channels], axis=2)


def find_sheets(pixels: np.ndarray) -> list[np.ndarray]:
    """Masks [H, W] of what may be a sheet on something of another colour, the largest first.

    The picture, float32 [H, W, 3], is divided in two colours; a sheet is a rectangle of one.
    """
    bright = divide(ndimage.median_filter(reduce(pixels), (3, 3, 1), mode="nearest"))
    sheets = []
    for colour in () if bright is None else (bright, ~bright):
        labels, count = ndimage.label(colour, EIGHT)
        for label in range(1, count + 1):
            region = labels == label
            sheet = ndimage.binary_fill_holes(region)
            if (
                MIN_AREA < sheet.mean() < 1
                and region.sum() > 0.67 * sheet.sum()
                and sheet[edge_of(sheet.shape)].mean() < MAX_CONTACT
                and sheet.sum() > RECTANGULAR * rectangle_area(sheet)
            ):
                sheets.append(sheet)
    sheets.sort(key=np.sum, reverse=True)
    images = (Image.fromarray(sheet.astype(np.uint8)) for sheet in sheets)
    size = pixels.shape[1::-1]
    return [np.asarray(image.resize(size, Image.Resampling.NEAREST)) > 0 for image in images]


def divide(pixels: np.ndarray) -> np.ndarray | None:
    """Mask [h, w] of one of the two colours of an image [h, w, 3]; None if there are not two.

    Otsu's method along the direction in which the colours differ most.
    Source: N. Otsu, A Threshold Selection Method from Gray-Level Histograms, IEEE SMC-9, 1979.
    """
    centred = (pixels - pixels.mean((0, 1))).reshape(-1, 3).astype(np.float64)
    values = centred @ np.linalg.eigh(centred.T @ centred)[1][:, -1]
    ordered = np.sort(values)
    count = np.arange(1, len(ordered))
    between = np.cumsum(ordered)[:-1] ** 2 / (count * (len(ordered) - count))  # variance
    if not len(count) or between.max() < max(TWO_COLOURS * ordered.var(), MIN_DISTANCE**2):
        return None
    return (values > ordered[between.argmax()]).reshape(pixels.shape[:2])


def rectangle_area(mask: np.ndarray) -> float:
    """Area of the smallest rectangle, turned by any angle, around a mask [H, W]."""
    points = np.argwhere(mask & ~ndimage.binary_erosion(mask)).astype(float)
    try:
        hull = points[ConvexHull(points).vertices]
    except QhullError:  # all on one line
        return float(mask.sum())
    edges = np.diff(hull, axis=0, append=hull[:1])
    along = edges / np.linalg.norm(edges, axis=1, keepdims=True)  # one side of it is on an edge
    across = along[:, ::-1] * (1, -1)
    widths, heights = (np.ptp(hull @ axes.T, axis=0) + 1 for axes in (along, across))
    return float((widths * heights).min())
