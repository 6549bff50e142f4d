"""Separate the ink of drawings from paper, table, ruled lines and specks."""

import numpy as np
from PIL import Image, ImageFilter
from scipy import ndimage

from .parts import EIGHT, edge_of, group
from .sheets import GRID, find_sheets, reduce

MIN_CONTRAST = 12
"""Smallest distance between ink and background in RGB, each channel 0 to 255."""
FAINT = 0.3
"""Fainter ink, as a fraction of the median, is kept only next to stronger ink."""
THRESHOLDS = 8
SMALL = 120
"""Pixels on the longer side below which strokes are as thin as lines, so none are looked for."""


def find_ink(pixels: np.ndarray, nested: int = 2) -> list[np.ndarray]:
    """Ink of each drawing in a picture, from left to right: uint8 [H, W] each; none in a blank one.

    `pixels`: float32 [H, W, 3], 0 to 255, of any polarity. Two drawings are separate if they lie
    side by side and have similar heights, as two digits do. `nested`: sheets within sheets.
    """
    difference = subtract_background(pixels)
    contrast = np.linalg.norm(difference, axis=2)
    erased = erase_lines(contrast)
    drawings = select(erased)
    if not drawings or touch_edge(drawings):  # what looked like a line may be a stroke
        erased, drawings = contrast, select(contrast)
    if nested:
        inks = ink_of_sheet(pixels, strongest(contrast, drawings), nested)
        if inks:
            return inks
    if not drawings:
        return []
    direction = difference[np.any(drawings, axis=0)].mean(0)
    ink = difference @ (direction / max(np.linalg.norm(direction), 1e-9))
    # Again without what differs in another direction, down to fainter ink.
    lowest = FAINT * float(np.median(ink[np.any(drawings, axis=0)]))
    drawings = select(ink.clip(0, erased), lowest, power=0.2) or drawings
    # Lighter and darker ink may cancel: a drawing then has nothing in the direction of the mean.
    return [soften(ink if (ink[mask] >= 1).any() else contrast, mask) for mask in drawings]


def ink_of_sheet(pixels: np.ndarray, ink: np.ndarray, nested: int) -> list[np.ndarray]:
    """What `find_ink` finds on a sheet of paper in the picture; none if there is no such sheet.

    `ink` is a mask [H, W] of what was found without looking for sheets.
    """
    for sheet in find_sheets(pixels)[:2]:
        cell = -(-max(sheet.shape) // GRID)
        inside = ndimage.minimum_filter(sheet, cell | 1, mode="nearest")
        outside = ndimage.minimum_filter(~sheet, 3 * cell | 1, mode="nearest")
        # Ink on both sides of an edge, or outside, shows that it is the edge of a shadow.
        amount = ink.sum()
        crosses = min((ink & inside).sum(), (ink & outside).sum()) > 0.05 * amount
        if crosses or (ink & sheet).sum() < 0.5 * amount or not inside.any():
            continue
        rows, columns = box = ndimage.find_objects(inside.astype(np.uint8))[0]
        nearest = ndimage.distance_transform_edt(
            ~inside[box], return_distances=False, return_indices=True
        )
        inks = find_ink(pixels[box][tuple(nearest)], nested - 1)
        if inks and not touch_edge(inks):
            height, width = sheet.shape
            margins = (rows.start, height - rows.stop), (columns.start, width - columns.stop)
            return [np.pad(ink, margins) for ink in inks]
    return []


def subtract_background(pixels: np.ndarray) -> np.ndarray:
    """Difference from the background: float32 [H, W, 3].

    The background is the median of a window as large as the picture, which follows the light and
    the edges of paper and shadows. Colours between those of neighbouring backgrounds count as
    background too. Dark ink is scaled to the brightest light, because light is multiplied.
    """
    y, x = (length // 100 for length in pixels.shape[:2])  # the border of a canvas is no background
    inner = pixels[y : len(pixels) - y, x : pixels.shape[1] - x]
    padded = np.pad(inner, ((y, y), (x, x), (0, 0)), mode="edge")
    small = reduce(padded).round().astype(np.uint8)
    window = ImageFilter.MedianFilter(max(small.shape) | 1)
    low, high = np.empty_like(pixels), np.empty_like(pixels)
    grey = (pixels == pixels[..., :1]).all()
    for channel in range(1 if grey else 3):  # the median of a large window takes long
        median = np.asarray(Image.fromarray(small[..., channel]).filter(window), np.float32)
        for bound, extreme in ((low, ndimage.minimum_filter), (high, ndimage.maximum_filter)):
            near = Image.fromarray(extreme(median, 3))
            enlarged = near.resize(pixels.shape[1::-1], Image.Resampling.BILINEAR)
            bound[..., channel:] = np.asarray(enlarged)[..., np.newaxis]
    background = np.clip(pixels, low, high)
    difference = pixels - background
    light = background.mean(2, keepdims=True)
    gain = np.clip(np.quantile(light, 0.9) / np.maximum(light, 1), 1, 3)
    return np.where(difference.sum(2, keepdims=True) < 0, difference * gain, difference)


def erase_lines(contrast: np.ndarray) -> np.ndarray:
    """Contrast [H, W] without thin lines from side to side and from top to bottom.

    A line is what a morphological opening across it removes. The opening is applied only where the
    line is, so thicker strokes and strokes that cross it stay.
    """
    side = max(contrast.shape)
    if side < SMALL:
        return contrast
    contrast = contrast.copy()
    across, bridge = side // 60 + 3, side // 6 | 1  # pixels; bridge: over strokes that cross a line
    for axis in (0, 1):
        length = contrast.shape[1 - axis]
        opened = ndimage.grey_opening(contrast, (across, 1) if axis == 0 else (1, across))
        thin = contrast - opened
        lines = thin > max(MIN_CONTRAST, 4 * np.median(thin))
        joined = ndimage.maximum_filter(lines, (3, bridge) if axis == 0 else (bridge, 3))
        labels, _ = ndimage.label(joined, EIGHT)
        for label, box in enumerate(ndimage.find_objects(labels), 1):
            line = lines[box] & (labels[box] == label)
            places = np.flatnonzero(line.any(axis))
            if len(places) > 0.5 * length and np.ptp(places) > 0.75 * length:
                near = ndimage.binary_dilation(line, EIGHT)
                contrast[box] = np.where(near, opened[box], contrast[box])
    return contrast


def select(contrast: np.ndarray, lowest: float = 0, power: float = 1) -> list[np.ndarray]:
    """Masks [H, W] of the drawings, at the best of several thresholds from `lowest` up.

    The smaller `power`, the more does size count and the less contrast.
    """
    smooth = ndimage.gaussian_filter(contrast, max(contrast.shape) / 400)
    highest = 0.8 * float(smooth.max())
    noise = min(6 * float(np.quantile(smooth, 0.25)), highest / 2)
    lowest = max(lowest, MIN_CONTRAST, noise)
    best: list[np.ndarray] = []
    best_score = 0.0
    for threshold in np.geomspace(lowest, max(lowest, highest), THRESHOLDS)[::-1]:
        mask = smooth > threshold
        if threshold**power * int(mask.sum()) < best_score:  # even if all of it were drawings
            continue
        drawings = group(mask)
        score = threshold**power * sum(int(drawing.sum()) for drawing in drawings)
        if score >= best_score:
            best, best_score = drawings, score
    return best


def strongest(contrast: np.ndarray, drawings: list[np.ndarray]) -> np.ndarray:
    """Mask [H, W] of the ink that has more than half of the contrast of the strongest drawing."""
    most = max((float(np.median(contrast[drawing])) for drawing in drawings), default=0)
    return (contrast > most / 2) & np.any([np.zeros(contrast.shape, bool), *drawings], axis=0)


def touch_edge(drawings: list[np.ndarray]) -> bool:
    """Whether a drawing reaches the edge of the picture."""
    return any(drawing[edge_of(drawing.shape)].any() for drawing in drawings)


def soften(ink: np.ndarray, drawing: np.ndarray) -> np.ndarray:
    """Ink of one drawing, uint8 [H, W]: 255 is its median, 0 the noise of the paper."""
    full = max(float(np.median(ink[drawing])), 1)
    outline = drawing & ~ndimage.binary_erosion(drawing)
    pen = max(1, round(drawing.sum() / outline.sum()))  # half the width of the stroke
    near = ndimage.binary_dilation(drawing, EIGHT, pen, drawing | (ink > FAINT * full))
    near = ndimage.binary_dilation(near, EIGHT)
    noise = 0 if near.all() else min(float(np.quantile(np.abs(ink[~near]), 0.9)), full / 2)
    scaled = (ink - noise) * (255 / (full - noise))
    return np.where(near, scaled.clip(0, 255), 0).round().astype(np.uint8)
