"""Pictures of every kind → MNIST's form, held against MNIST's own test images."""

import zlib
from collections.abc import Callable
from io import BytesIO
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from mnist_pipeline.handwriting import glyphs as module
from mnist_pipeline.handwriting.decode import PictureError
from mnist_pipeline.handwriting.glyphs import read_glyph
from mnist_pipeline.model.files import load_model
from mnist_pipeline.splits.batches import load_split

Change = Callable[[Image.Image], Image.Image]


def saved(image: Image.Image, kind: str = "PNG", **options: int) -> BytesIO:
    file = BytesIO()
    image.save(file, kind, **options)
    return file


def inverted(image: Image.Image) -> Image.Image:
    return image.point(lambda value: 255 - value)


def padded(image: Image.Image) -> Image.Image:
    around = Image.new("L", (2 * image.width, 3 * image.height))
    around.paste(image, (image.width // 8, image.height // 3))
    return around


@pytest.mark.parametrize(("size", "kind"), [(28, "PNG"), (28, "JPEG"), (300, "JPEG")])
def test_mnist_images_lose_no_accuracy(
    mnist_folder: Path, model_file: Path, size: int, kind: str
) -> None:
    """Every third as it is, inverted, padded."""
    images, labels = load_split(mnist_folder, "test")[:: 50 if size < 300 else 150]
    model, _ = load_model(model_file)

    def accuracy(prepared: torch.Tensor) -> float:
        with torch.no_grad():
            return (model(prepared).argmax(1) == labels).double().mean().item()

    changes = cycle([lambda image: image, inverted, padded])
    prepared = [
        read_glyph(saved(change(Image.fromarray(image).resize((size, size))), kind), "image")
        for image, change in zip(images[:, 0].numpy(), changes, strict=False)
    ]
    lost = accuracy(images) - accuracy(torch.from_numpy(np.stack(prepared))[:, None])
    assert lost <= 0.015  # 5,000 PNG files of 28 × 28 lose nothing


def seven(ink: object, paper: object, mode: str, size: int = 200) -> Image.Image:
    """A seven with a thick pen, off-centre."""
    image = Image.new(mode, (2 * size, size), paper)  # type: ignore[arg-type]
    points = [(size * x, size * y) for x, y in ((0.2, 0.2), (0.6, 0.2), (0.4, 0.8))]
    ImageDraw.Draw(image).line(points, ink, size // 12, joint="curve")  # type: ignore[arg-type]
    return image


def sixteen_bit() -> Image.Image:
    grey = np.asarray(seven(0, 255, "L")).astype(np.uint16)
    return Image.fromarray(grey * 12 + 500)


def in_uneven_light() -> Image.Image:
    light = np.linspace(0.4, 1, 400) * np.linspace(0.8, 1, 200)[:, np.newaxis]
    noise = np.random.default_rng(0).normal(0, 6, (200, 400))
    return Image.fromarray(
        (np.asarray(seven(30, 220, "L")) * light + noise).clip(0, 255).astype("u1")
    )


def distance(found: np.ndarray, expected: np.ndarray) -> float:
    """Mean difference of the pixels; a centre may be rounded to the next pixel."""
    shifts = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)]
    moved = [np.roll(found.astype(int), shift, (0, 1)) for shift in shifts]
    return min(float(np.abs(image - expected).mean()) for image in moved)


EXPECTED = read_glyph(saved(seven(255, 0, "L")), "seven")


@pytest.mark.parametrize(
    "picture",
    [
        seven(0, 255, "L"),
        seven((200, 30, 30), (40, 110, 40), "RGB"),  # much the same grey
        seven((0, 0, 0, 255), (0, 0, 0, 0), "RGBA"),
        seven((255, 255, 255, 255), (255, 255, 255, 0), "RGBA"),
        seven((90, 255), (90, 0), "LA"),
        seven(0, 1, "1"),
        seven(3, 200, "L").convert("P"),
        seven(0, 255, "L").convert("CMYK"),
        sixteen_bit(),
        seven(0.25, 0.75, "F"),
        in_uneven_light(),
        seven(0, 255, "L", 1500),
    ],
    ids=lambda picture: f"{picture.mode} of {picture.width}",
)
def test_the_same_drawing_in_any_colours_is_the_same_image(picture: Image.Image) -> None:
    kind = "TIFF" if picture.mode in ("F", "CMYK") else "PNG"
    found = read_glyph(saved(picture, kind), "picture")
    assert distance(found, EXPECTED) < 6


def test_the_result_has_mnists_form() -> None:
    rows, columns = np.nonzero(EXPECTED)
    assert max(np.ptp(rows), np.ptp(columns)) + 1 == 20
    for axis in (0, 1):
        mass = EXPECTED.sum(axis).astype(float)
        assert abs(np.average(np.arange(28), weights=mass) - 14) <= 0.5
    assert distance(read_glyph(saved(Image.fromarray(EXPECTED)), "again"), EXPECTED) < 4


def test_thin_strokes_become_as_wide_as_mnists() -> None:
    thin = Image.new("L", (300, 300), 250)
    ImageDraw.Draw(thin).ellipse((60, 40, 240, 260), outline=20, width=4)
    found = read_glyph(saved(thin), "thin")
    assert found.max() > 250
    assert 1.2 < module._stroke_width(np.kron(found, np.ones((8, 8), np.uint8))) / 8 < 2.2


def test_the_exif_orientation_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    file = BytesIO()
    seven(0, 255, "L").transpose(Image.Transpose.ROTATE_90).save(file, "PNG", exif=exif)
    assert distance(read_glyph(file, "turned"), EXPECTED) < 1


def bomb(width: int, height: int) -> BytesIO:
    """A PNG that claims a size and holds next to nothing."""
    content = bytearray(saved(Image.new("1", (8, 8))).getvalue())
    content[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    return BytesIO(bytes(content))


def test_an_unusable_picture_is_named(tmp_path: Path) -> None:
    text = tmp_path / "a text.png"
    text.write_text("seven")
    cut = saved(seven(0, 255, "L")).getvalue()[:-80]
    cases: list[tuple[Path | BytesIO, str]] = [
        (tmp_path / "nowhere.png", "No such file"),
        (tmp_path, "Is a directory"),
        (text, "not a picture of a known format"),
        (BytesIO(), "found an empty file"),
        (BytesIO(cut), "damaged"),
        (bomb(20_000, 20_000), "too large (Image size (400000000 pixels)"),
        (bomb(9_000, 12_000), "too large (9000 × 12000 pixels, expected 100,000,000 at most"),
        (saved(Image.new("RGB", (50, 50), "red")), "a single colour"),
        (saved(Image.new("RGBA", (50, 50))), "a single colour"),
    ]
    for file, problem in cases:
        with pytest.raises(PictureError) as caught:
            read_glyph(file, "a name")
        assert str(caught.value).startswith("a name: ")
        assert problem in str(caught.value)
        assert "\n" not in str(caught.value)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"]))
def test_damaged_bytes_are_an_image_or_an_error_of_one_line(seed: int, kind: str) -> None:
    random = np.random.default_rng(seed)
    content = np.frombuffer(saved(seven(0, 255, "L", 40), kind).getvalue(), np.uint8).copy()
    places = random.integers(0, len(content), random.integers(1, 6))
    content[places] = random.integers(0, 256, len(places))
    try:
        image = read_glyph(BytesIO(content.tobytes()), "damaged")
    except PictureError as error:
        assert str(error).startswith("damaged: ")
    else:
        assert image.shape == (28, 28)
        assert image.dtype == np.uint8


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 9), (9, 1), (2, 2), (400, 1), (3, 400)])
def test_tiny_and_narrow_pictures(width: int, height: int) -> None:
    pixels = np.zeros((height, width), np.uint8)
    pixels[height // 2, width // 2] = 255
    try:
        assert read_glyph(saved(Image.fromarray(pixels)), "tiny").max() > 0
    except PictureError as error:
        assert "a single colour" in str(error)
