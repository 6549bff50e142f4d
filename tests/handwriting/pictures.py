"""Accuracy on MNIST's digits drawn onto pictures of many kinds.

    python tests/handwriting/pictures.py [--model MODEL] [--count 100] [--save FOLDER] [KIND ...]

A digit becomes a smooth stroke, drawn with a pen on paper at a random place; the paper is lit from
one side and photographed with some blur and noise. Each kind changes one thing about that.

Lengths and thresholds of the library are tuned on the kinds that are TUNED, with digits of the
training split. Nothing is tuned on those that are UNTUNED, with digits of the test split.
"""

import argparse
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))

from _tool import ROOT

import numpy as np
import torch
from PIL import Image, ImageDraw
from scipy import ndimage

from mnist_pipeline.common.errors import run_script
from mnist_pipeline.handwriting.decode import PictureError
from mnist_pipeline.handwriting.glyphs import read_glyphs
from mnist_pipeline.model.files import load_model
from mnist_pipeline.splits.batches import load_split

SIDE = 480
WHITE, BLUE, BLACK = (0.93, 0.92, 0.90), (0.15, 0.17, 0.36), (0.1, 0.1, 0.1)


# Everything on paper is float [H, W, 3] and every mask float [H, W], both from 0 to 1.


def stroke(digit: np.ndarray, random: np.random.Generator, turn: float = 0) -> np.ndarray:
    """Mask of a digit uint8 [28, 28], 35 to 55 % of SIDE high, near the middle."""
    scale = random.uniform(0.35, 0.55) * SIDE / 20
    size = round(28 * scale)
    large = Image.fromarray(digit).resize((size, size), Image.Resampling.BICUBIC).rotate(turn)
    soft = ndimage.gaussian_filter(np.asarray(large) / 255, scale / 3)
    mask = np.pad(np.clip((soft - 0.4) * scale + 0.5, 0, 1), SIDE)
    top, left = (
        round(SIDE + size / 2 - SIDE / 2 + random.uniform(-0.1, 0.1) * SIDE) for _ in range(2)
    )
    return mask[top : top + SIDE, left : left + SIDE]


def draw(mask: np.ndarray, paper: object = WHITE, pen: object = BLUE) -> np.ndarray:
    """Paint `pen` on `paper`, each a colour or an image."""
    return np.asarray(paper) * (1 - mask[..., None]) + np.asarray(pen) * mask[..., None]


def thin(mask: np.ndarray, width: int = 3) -> np.ndarray:
    """The middle line of a stroke, about `width` pixels wide."""
    depth = ndimage.gaussian_filter(ndimage.distance_transform_edt(mask > 0.5), 1)
    ridge = (depth > 0.92 * ndimage.maximum_filter(depth, 5)) & (depth > 1.5)
    return np.clip(1.5 * ndimage.gaussian_filter(ridge * 1.0, width / 3), 0, 1)


def lines(random: np.random.Generator, width: int, step: int, upright: bool = False) -> np.ndarray:
    """Mask of ruled lines, turned by up to two degrees; with `upright`, of graph paper."""
    page = Image.new("L", (2 * SIDE, 2 * SIDE))
    for place in range(int(random.integers(step)), 2 * SIDE, step):
        ImageDraw.Draw(page).line((0, place, 2 * SIDE, place), 255, width)
        if upright:
            ImageDraw.Draw(page).line((place, 0, place, 2 * SIDE), 255, width)
    turned = np.asarray(page.rotate(random.uniform(-2, 2), Image.Resampling.BICUBIC))
    return turned[SIDE // 2 : -SIDE // 2, SIDE // 2 : -SIDE // 2] / 255


def outline(random: np.random.Generator, *boxes: tuple[float, float, float, float]) -> np.ndarray:
    """Mask of thin boxes, in fractions of the side."""
    page = Image.new("L", (SIDE, SIDE))
    width = int(random.integers(1, 5))
    for box in boxes:
        ImageDraw.Draw(page).rectangle(tuple(SIDE * place for place in box), None, 255, width)
    return np.asarray(page) / 255


def wood(random: np.random.Generator) -> np.ndarray:
    """A table with a grain."""
    tints = ((0.36, 0.24, 0.16), (0.22, 0.22, 0.25), (0.45, 0.33, 0.2), (0.15, 0.12, 0.1))
    grain = ndimage.gaussian_filter(random.normal(0, 2, (SIDE, SIDE)), (1.5, 30))
    return np.asarray(tints[random.integers(len(tints))]) * (1 + grain[..., None])


def lay(sheet: np.ndarray, random: np.random.Generator, share: float) -> Image.Image:
    """A sheet, slightly turned, on transparent ground; its side has `share` of the picture's."""
    side = round(SIDE * share)
    small = image(sheet).convert("RGBA").resize((side, side), Image.Resampling.LANCZOS)
    turned = small.rotate(random.uniform(-6, 6), Image.Resampling.BICUBIC, expand=True)
    ground = Image.new("RGBA", (SIDE, SIDE))
    free = max(1, SIDE - turned.width)
    ground.paste(turned, (int(random.integers(free)), int(random.integers(free))))
    return ground


def on_table(sheet: np.ndarray, random: np.random.Generator, share: float) -> np.ndarray:
    """The same on a table."""
    table = image(wood(random)).convert("RGBA")
    return np.asarray(Image.alpha_composite(table, lay(sheet, random, share)).convert("RGB")) / 255


def beside(sheet: np.ndarray, random: np.random.Generator, low: float, high: float) -> np.ndarray:
    """A table along one or two sides, its edge not quite parallel to the picture's."""
    picture, table = sheet, wood(random)
    for side in random.permutation(4)[: random.integers(1, 3)].tolist():
        strip = np.rot90(table, side)[:, : round(SIDE * random.uniform(low, high))]
        picture = np.rot90(picture, -side)
        strip = np.resize(strip, (len(picture), strip.shape[1], 3))
        picture = np.rot90(np.concatenate([strip, picture], axis=1), side)
    angle = random.uniform(-2, 2)
    return ndimage.rotate(picture, angle, reshape=False, order=1, mode="nearest")


def holes(sheet: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Punched holes along the left side, through which a dark table shows."""
    page = Image.new("L", (SIDE, SIDE))
    radius, left = random.uniform(0.01, 0.03) * SIDE, random.uniform(0.02, 0.06) * SIDE
    for y in np.arange(random.uniform(0.02, 0.1), 1, random.choice([0.125, 0.25, 0.4])) * SIDE:
        ImageDraw.Draw(page).ellipse((left - radius, y - radius, left + radius, y + radius), 255)
    return draw(np.asarray(page) / 255, sheet, BLACK)


def letterbox(sheet: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Bars of one colour above and below, or left and right."""
    bar = np.full((round(random.uniform(0.05, 0.4) * SIDE), SIDE, 3), random.choice([0.0, 1.0]))
    picture = np.concatenate([bar, sheet, bar])
    return (
        picture
        if random.random() < 0.5
        else np.rot90(np.concatenate([bar, np.rot90(sheet), bar]), -1)
    )


def vignette(sheet: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Half of the light in the corners."""
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    return sheet * (1 - 0.25 * (x * x + y * y))[..., None]


def shadow(sheet: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The hard shadow of a hand, somewhere across the picture."""
    page = Image.new("L", (SIDE, SIDE))
    start, end = random.uniform(0.2, 0.8, 2) * SIDE
    ImageDraw.Draw(page).polygon([(0, start), (SIDE, end), (SIDE, SIDE), (0, SIDE)], 255)
    mask = np.rot90(np.asarray(page) / 255, int(random.integers(4)))
    return sheet * (1 - 0.5 * ndimage.gaussian_filter(mask, random.uniform(1, 4)))[..., None]


def light(sheet: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Up to a fifth less light on one side."""
    y, x = np.mgrid[-1 : 1 : len(sheet) * 1j, -1 : 1 : sheet.shape[1] * 1j]
    angle = random.uniform(0, 2 * np.pi)
    return sheet * (0.9 + 0.07 * (np.cos(angle) * x + np.sin(angle) * y))[..., None]


def photo(sheet: np.ndarray, random: np.random.Generator, blur: float = 0.7) -> Image.Image:
    """Light, and the blur and noise of a camera."""
    blurred = ndimage.gaussian_filter(light(sheet, random), (blur, blur, 0))
    return image(blurred + random.normal(0, 0.015, blurred.shape))


def image(pixels: np.ndarray) -> Image.Image:
    """Float 0 to 1 → 8 bits."""
    return Image.fromarray((pixels.clip(0, 1) * 255).round().astype(np.uint8))


def pencil(mask: np.ndarray, random: np.random.Generator) -> Image.Image:
    """Grey, and grainy."""
    grain = ndimage.gaussian_filter(random.normal(0.8, 0.8, mask.shape), 1).clip(0.2, 1)
    return photo(draw(mask * grain * 0.6, WHITE, BLACK), random)


def chalk(mask: np.ndarray, random: np.random.Generator) -> Image.Image:
    """Light and grainy on a dark board with a smear."""
    board = (
        np.asarray((0.13, 0.25, 0.2))
        + ndimage.gaussian_filter(random.normal(0, 1.5, (SIDE, SIDE)), 40)[..., None]
    )
    grain = ndimage.gaussian_filter(random.normal(0.9, 0.8, mask.shape), 0.8).clip(0.2, 1)
    return photo(draw(mask * grain, board, WHITE), random)


def jpeg(picture: Image.Image, quality: int) -> Image.Image:
    """Through a strong compression."""
    file = BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return Image.open(file)


def specks(mask: np.ndarray, random: np.random.Generator) -> Image.Image:
    """A 1-bit scan of 700 × 700 with specks of three to five pixels."""
    page = image(1 - mask).resize((700, 700)).point(lambda value: 255 * (value > 127))
    for _ in range(random.integers(100, 500)):
        (x, y), size = random.integers(0, 700, 2).tolist(), int(random.integers(3, 6))
        ImageDraw.Draw(page).ellipse((x, y, x + size - 1, y + size - 1), 0)
    return page.convert("1")


def drawing(mask: np.ndarray, border: int) -> Image.Image:
    """Black on white in 280 × 280, as drawing programs save it, with a border of the canvas."""
    page = image(1 - mask).resize((280, 280))
    ImageDraw.Draw(page).rectangle((0, 0, 279, 279), None, 0 if border else 255, border or 1)
    return page


def rule(
    random: np.random.Generator, strength: float, width: int, upright: bool = False
) -> np.ndarray:
    """Ruled paper; `strength` 1 is as dark as the ink."""
    mask = strength * lines(random, width, int(random.integers(40, 90)), upright)
    return draw(mask, WHITE, (0.2, 0.28, 0.5))


def underline(mask: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Mask of a line from side to side, under the digit or touching its lower end."""
    bottom = np.flatnonzero(mask.max(1) > 0.5)[-1] / SIDE
    y, slant = bottom + random.uniform(-0.01, 0.1), random.uniform(-0.01, 0.01)
    page = Image.new("L", (SIDE, SIDE))
    ends = (0, (y - slant) * SIDE, SIDE, (y + slant) * SIDE)
    ImageDraw.Draw(page).line(ends, 255, int(random.integers(1, 6)))
    return np.asarray(page) / 255


def two(mask: np.ndarray, other: np.ndarray, random: np.random.Generator) -> Image.Image:
    """Two digits side by side."""
    columns = [np.flatnonzero(m.max(0) > 0.1) for m in (mask, other)]
    parts = [m[:, c[0] : c[-1] + 1] for m, c in zip((mask, other), columns, strict=True)]
    gap, margin = (
        np.zeros((SIDE, round(SIDE * share))) for share in (random.uniform(0.06, 0.2), 0.15)
    )
    return photo(draw(np.concatenate([margin, parts[0], gap, parts[1], margin], axis=1)), random)


def highlighter(mask: np.ndarray, random: np.random.Generator) -> Image.Image:
    """A broad pen of a light colour."""
    broad = ndimage.gaussian_filter(ndimage.grey_dilation(mask, 9), 1)
    tints = ((0.98, 0.93, 0.25), (0.55, 0.95, 0.45), (1.0, 0.6, 0.75))
    return photo(draw(broad, WHITE, tints[random.integers(len(tints))]), random)


def crumpled(random: np.random.Generator) -> np.ndarray:
    """Paper with creases: each is brighter on one side."""
    y, x = np.mgrid[0 : 1 : SIDE * 1j, 0 : 1 : SIDE * 1j]
    shade = np.ones((SIDE, SIDE))
    for _ in range(random.integers(4, 9)):
        angle, place = random.uniform(0, np.pi), random.uniform(-0.3, 1.2)
        distance = np.cos(angle) * x + np.sin(angle) * y - place
        shade += random.uniform(-0.12, 0.12) * np.sign(distance) * np.exp(-abs(distance) / 0.1)
    return np.asarray(WHITE) * ndimage.gaussian_filter(shade, 1)[..., None]


def cardboard(random: np.random.Generator) -> np.ndarray:
    """Brown and fibrous."""
    fibres = ndimage.gaussian_filter(random.normal(0, 1, (SIDE, SIDE)), (6, 1))
    return np.asarray((0.72, 0.57, 0.41)) * (1 + 0.35 * fibres[..., None])


def stain(random: np.random.Generator) -> np.ndarray:
    """Paper with the ring of a cup."""
    page = Image.new("L", (SIDE, SIDE))
    (x, y), radius = random.uniform(0, SIDE, 2), random.uniform(0.25, 0.4) * SIDE
    width = int(random.integers(6, 16))
    ImageDraw.Draw(page).ellipse((x - radius, y - radius, x + radius, y + radius), None, 255, width)
    ring = ndimage.gaussian_filter(np.asarray(page) / 255, 2)
    return draw(0.35 * ring, WHITE, (0.45, 0.28, 0.12))


def print_through(random: np.random.Generator) -> np.ndarray:
    """Paper through which the print on its back shows, as rows of grey marks."""
    page = Image.new("L", (SIDE, SIDE))
    for y in range(int(random.integers(10, 30)), SIDE, 26):
        x = 10
        while x < SIDE:
            width = int(random.integers(3, 14))
            ImageDraw.Draw(page).rectangle((x, y, x + width, y + 9), 255)
            x += width + int(random.integers(3, 9))
    return draw(0.12 * ndimage.gaussian_filter(np.asarray(page) / 255, 2), WHITE, BLACK)


def clip(random: np.random.Generator) -> np.ndarray:
    """Mask of a paper clip at the upper edge."""
    page = Image.new("L", (SIDE, SIDE))
    x = random.uniform(0.05, 0.85) * SIDE
    for inset, bottom in ((0, 0.14), (7, 0.1)):
        box = (x + inset, -40, x + 34 - inset, bottom * SIDE)
        ImageDraw.Draw(page).rounded_rectangle(box, 14 - inset / 2, None, 255, 3)
    return np.asarray(page) / 255


def pens(random: np.random.Generator) -> tuple[float, float, float]:
    """The colour of a marker."""
    return ((0.8, 0.1, 0.1), (0.1, 0.45, 0.2), (0.1, 0.2, 0.7), BLACK)[random.integers(4)]


CELLS = [(x, 0.08, x + 0.84, 0.92) for x in (-0.76, 0.08, 0.92)]

Kind = Callable[[np.ndarray, np.random.Generator], Image.Image]
TUNED: dict[str, Kind] = {
    "photo": lambda m, r: photo(draw(m), r),
    "ruled in light lines": lambda m, r: photo(draw(m, rule(r, 0.2, 2)), r),
    "graph paper in light lines": lambda m, r: photo(draw(m, rule(r, 0.15, 1, True)), r),
    "pencil": pencil,
    "whiteboard": lambda m, r: photo(draw(m, (0.9, 0.92, 0.95), pens(r)), r),
    "chalk": chalk,
    "thin pen": lambda m, r: photo(draw(thin(m)), r),
    "sticky note": lambda m, r: photo(draw(m, (0.95, 0.85, 0.35), pens(r)), r),
    "blurred": lambda m, r: photo(draw(m), r, 6),
    "strong JPEG": lambda m, r: jpeg(photo(draw(m), r), 10),
    "drawing program": lambda m, r: drawing(m, 0),
    "table beside": lambda m, r: photo(beside(draw(m), r, 0.05, 0.5), r),
    "sliver of the table": lambda m, r: photo(beside(draw(m), r, 0.01, 0.04), r),
    "table all round": lambda m, r: photo(on_table(light(draw(m), r), r, 0.85), r),
    "sheet wholly in view": lambda m, r: photo(on_table(draw(m), r, r.uniform(0.4, 0.7)), r),
    "transparent margins": lambda m, r: lay(light(draw(m), r), r, r.uniform(0.5, 0.9)),
    "letterbox bars": lambda m, r: photo(letterbox(draw(m), r), r),
    "canvas border": lambda m, r: drawing(m, 1),
    "punched holes": lambda m, r: photo(holes(draw(m), r), r),
    "printed box": lambda m, r: photo(
        draw(m, draw(outline(r, (0.05, 0.05, 0.95, 0.95)), WHITE, BLACK)), r
    ),
    "cell of a form": lambda m, r: photo(draw(m, draw(outline(r, *CELLS), WHITE, BLACK)), r),
    "underlined": lambda m, r: photo(draw(m, draw(underline(m, r), WHITE, BLACK)), r),
    "ruled half as dark": lambda m, r: photo(draw(m, rule(r, 0.5, int(r.integers(1, 4)))), r),
    "graph half as dark": lambda m, r: photo(draw(m, rule(r, 0.5, int(r.integers(1, 3)), True)), r),
    "vignette": lambda m, r: photo(vignette(draw(m), r), r),
    "shadow of a hand": lambda m, r: photo(shadow(draw(m), r), r),
    "specks in a 1-bit scan": specks,
}
UNTUNED: dict[str, Kind] = {
    "highlighter": highlighter,
    "crumpled paper": lambda m, r: photo(draw(m, crumpled(r)), r),
    "cardboard": lambda m, r: photo(draw(m, cardboard(r), BLACK), r),
    "ring of a cup": lambda m, r: photo(draw(m, stain(r)), r),
    "print shows through": lambda m, r: photo(draw(m, print_through(r)), r),
    "paper clip": lambda m, r: photo(draw(m, draw(clip(r), WHITE, (0.5, 0.5, 0.55))), r),
}
TURNED, TWO = "turned by 30 degrees", "two digits"
KINDS = [*TUNED, TURNED, TWO, *UNTUNED]


def make(kind: str, digits: np.ndarray, index: int) -> Image.Image:
    """Picture number `index` of a kind, of digits[index]; of two digits, the next one is right."""
    random = np.random.default_rng([index, *kind.encode()])
    if kind == TWO:
        first, second = (stroke(digits[i % len(digits)], random) for i in (index, index + 1))
        return two(first, second, random)
    if kind == TURNED:
        mask = stroke(digits[index], random, float(random.choice([-30, 30])))
        return photo(draw(mask), random)
    return (TUNED | UNTUNED)[kind](stroke(digits[index], random), random)


def saved(picture: Image.Image) -> BytesIO:
    """The file: JPEG for colours, else PNG."""
    file = BytesIO()
    picture.save(file, "JPEG" if picture.mode == "RGB" else "PNG")
    return file


def main() -> None:
    """Print one row per kind."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"of {', '.join(KINDS)}")
    parser.add_argument("--model", type=Path, default=ROOT / "models/model.safetensors")
    parser.add_argument("--count", type=int, default=100, help="digits per kind")
    parser.add_argument("--save", type=Path, help="folder for the pictures and what was kept")
    arguments = parser.parse_args()
    model, _ = load_model(arguments.model)
    for kind in arguments.kinds or KINDS:
        split = load_split(ROOT / "data/processed", "test" if kind in UNTUNED else "train")
        images, labels = split[:: len(split) // arguments.count]
        images, labels = images[: arguments.count], labels[: arguments.count]
        correct = 0
        for index, label in enumerate(labels.tolist()):
            file = saved(make(kind, images[:, 0].numpy(), index))
            try:
                found = read_glyphs(file, kind)
            except PictureError as error:
                found, answer = np.zeros((0, 28, 28), np.uint8), [str(error)]
            else:
                with torch.no_grad():
                    answer = model(torch.from_numpy(found)[:, None]).argmax(1).tolist()
            expected = [label]
            if kind == TWO:
                expected.append(int(labels[(index + 1) % len(labels)]))
            correct += answer == expected
            if arguments.save:
                folder = arguments.save / kind.replace(" ", "-")
                folder.mkdir(parents=True, exist_ok=True)
                right = "" if answer == expected else "-wrong"
                name = f"{index:03}-{'-'.join(map(str, expected))}{right}"
                Image.open(file).save(folder / f"{name}.png")
                if len(found):
                    Image.fromarray(np.hstack(list(found))).save(folder / f"{name}-kept.png")
        print(f"| {kind} | {correct / len(labels):.0%} |", flush=True)


if __name__ == "__main__":
    run_script(main)
