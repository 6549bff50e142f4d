"""Folders as people have them: splits, links, other files; photos keep what they show."""

import os
import re
import signal
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mnist_pipeline.common import cores
from mnist_pipeline.common.errors import UserError
from mnist_pipeline.handwriting.decode import FORMATS, PictureError
from mnist_pipeline.handwriting.photos import read_photo
from mnist_pipeline.splits.folders import PICTURES, read_folder

PHOTOS = ("photo", {"image_size": 8, "channels": 1})


def write(folder: Path, *names: str) -> None:
    """Write a picture at each path; its shade is the number of pictures written before it."""
    for shade, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), shade).save(folder / name)


def read(folder: Path) -> tuple[list[str], list[int], list[int]]:
    """Class names, and the shades of the training and of the test pictures."""
    found = read_folder(folder, *PHOTOS)
    train, test = (part.images[:, 0, 0, 0].tolist() for part in (found.train, found.test))
    return found.classes, train, test


def problem(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        read(folder)
    return str(caught.value)


@pytest.mark.parametrize(
    ("train", "test"), [("train", "test"), ("Train", "Test"), ("training", "TESTING")]
)
def test_splits_under_their_usual_names(tmp_path: Path, train: str, test: str) -> None:
    write(tmp_path, f"{train}/a/1.png", f"{train}/b/1.png", f"{test}/a/1.png", f"{test}/b/1.png")
    assert read(tmp_path) == (["a", "b"], [0, 1], [2, 3])


@pytest.mark.parametrize(
    ("splits", "found"),
    [
        (["train", "val"], "train, val"),
        (["train", "valid", "test"], "test, train, valid"),
        (["Training", "Validation"], "Training, Validation"),
        (["train"], "train"),
        (["val"], "val"),
        (["train", "training", "test"], "test, train, training"),
        (["train", "test", "more"], "more, test, train"),
        (["train", "more"], "more, train"),
    ],
)
def test_other_splits_are_refused_and_never_taken_for_classes(
    tmp_path: Path, splits: list[str], found: str
) -> None:
    write(tmp_path, *(f"{split}/{name}/{n}.png" for split in splits for name in "ab" for n in "12"))
    message = problem(tmp_path)
    assert f"{tmp_path}: found {found}, expected only train and test" in message
    name = next((split for split in splits if split.lower().startswith("val")), None)
    assert ("The validation split is taken from train" in message) == (name is not None)
    assert name is None or f"rename {name} to test" in message


def test_splits_without_class_folders_are_no_classes(tmp_path: Path) -> None:
    write(tmp_path, "train/1.png", "train/2.png", "test/1.png", "test/2.png")
    assert "train: found the sub-folders none; expected two or more" in problem(tmp_path)


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    write(tmp_path, *(f"{name}/{n}.png" for name in ("bus", "car", "train") for n in "12"))
    assert read(tmp_path)[0] == ["bus", "car", "train"]


@pytest.mark.parametrize("hidden", [".ipynb_checkpoints", "__MACOSX", ".git"])
def test_hidden_folders_are_skipped_everywhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], hidden: str
) -> None:
    write(tmp_path, *(f"{split}/{name}/1.png" for split in ("train", "test") for name in "ab"))
    for place in ("", "train", "test", "train/a", "test/b"):
        write(tmp_path / place / hidden, "a/1.png", "b/1.png", "1.png")
    write(tmp_path, "train/a/._1.png", "train/.1.png")  # macOS's companions of a file
    assert read(tmp_path) == (["a", "b"], [0, 1], [2, 3])
    assert capsys.readouterr().out == ""


def test_every_format_that_can_be_read_counts(tmp_path: Path) -> None:
    write(tmp_path, *(f"{name}/{n}.png" for name in "ab" for n in "12"))
    for number, format_name in enumerate(FORMATS):
        suffixes = [s for s, name in Image.registered_extensions().items() if name == format_name]
        for suffix in suffixes:
            picture = Image.new("F" if suffix == ".pfm" else "L", (8, 8))
            picture.save(tmp_path / f"a/{number}{suffix.upper()}", format_name)
    found = read_folder(tmp_path, *PHOTOS)
    assert len(found.train.labels) + len(found.test.labels) == 4 + sum(
        name in FORMATS for name in Image.registered_extensions().values()
    )


def test_other_files_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, *(f"{name}/{n}.png" for name in "ab" for n in "12"), "outside.png")
    for name in ("README", "a/1.heic", "a/deep/2.HEIC", "b/Thumbs.\33[2j"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("other")
    _, train, test = read(tmp_path)
    assert sorted(train + test) == [0, 1, 2, 3]
    assert capsys.readouterr().out == (
        f"{tmp_path}: left out 5 files, not pictures of a class:"
        " 2 .heic, 1 no extension, 1 .png, 1 .\\x1b[2j\n"
    )


def test_all_pictures_that_cannot_be_used_are_listed(tmp_path: Path) -> None:
    write(tmp_path, *(f"{name}/{n}.png" for name in "ab" for n in "12"))
    (tmp_path / "a/bad.png").write_text("not a picture")
    (tmp_path / "b/empty.png").touch()
    first, *lines = problem(tmp_path).splitlines()
    assert first == "2 pictures cannot be used:"
    for line, name in zip(
        lines, ("a/bad.png: not a picture", "b/empty.png: found an"), strict=True
    ):
        assert line.startswith(f"  {tmp_path / name}")
    for number in range(30):
        (tmp_path / f"a/more {number}.png").touch()
    first, *lines = problem(tmp_path).splitlines()
    assert first == "32 pictures cannot be used:"
    assert len(lines) == 21
    assert lines[-1] == "  and 12 more"


def test_whatever_goes_wrong_in_a_picture_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(path: Path, **settings: object) -> np.ndarray:
        raise IndexError(f"of {path.name}")

    write(tmp_path, *(f"{name}/{n}.png" for name in "ab" for n in "12"))
    monkeypatch.setitem(PICTURES, "photo", broken)
    first, *lines = problem(tmp_path).splitlines()
    assert first == "4 pictures cannot be used:"
    assert f"  {tmp_path / 'b/2.png'}: cannot be converted (IndexError: of 2.png)" in lines

    def too_large(path: Path, **settings: object) -> np.ndarray:
        raise MemoryError

    monkeypatch.setitem(PICTURES, "photo", too_large)
    with pytest.raises(MemoryError):
        read(tmp_path)


@pytest.fixture
def two_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Convert small folders, too, by two processes."""
    monkeypatch.setattr(cores, "MANY", 1)
    monkeypatch.setattr(cores, "cores", lambda: 2)


def test_two_processes_convert_as_one_does(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    write(tmp_path / "good", *(f"{name}/{n}.png" for name in "ab" for n in range(40)))
    write(tmp_path / "bad", *(f"{name}/{n}.png" for name in "ab" for n in range(20)))
    for name in ("a/7.png", "a/zero.png", "b/12.png"):
        (tmp_path / "bad" / name).write_bytes(b"")
    alone = read(tmp_path / "good"), problem(tmp_path / "bad")
    request.getfixturevalue("two_processes")
    assert (read(tmp_path / "good"), problem(tmp_path / "bad")) == alone


def killed(path: Path, **settings: object) -> np.ndarray:
    os.kill(os.getpid(), signal.SIGTERM)
    raise AssertionError


@pytest.mark.usefixtures("two_processes")
def test_a_killed_process_is_an_error_that_says_what_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, *(f"{name}/{n}.png" for name in "ab" for n in "12"))
    monkeypatch.setitem(PICTURES, "photo", killed)
    message = problem(tmp_path)
    assert message.startswith(f"{tmp_path}: a process that converts pictures was killed")
    assert "Free memory, or use fewer cores" in message


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_images_do_not_have_to_fit_in_memory(tmp_path: Path) -> None:
    write(tmp_path / "images", *(f"{name}/{n}.png" for name in "ab" for n in range(50)))

    def anonymous() -> int:
        found = re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())
        assert found
        return 1024 * int(found[1])

    before = anonymous()
    settings = {"image_size": 512, "channels": 3}
    found = read_folder(tmp_path / "images", "photo", settings, tmp_path)
    size = sum(part.images.nbytes for part in (found.train, found.test))
    assert size == 100 * 512 * 512 * 3
    assert anonymous() - before < size / 4
    assert [path.name for path in tmp_path.iterdir()] == ["images"]
    shades = np.concatenate([found.train.images, found.test.images])[:, 0, 0, 0]
    assert sorted(shades.tolist()) == list(range(100))


def test_links_to_folders_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "elsewhere/1.png", "images/b/1.png", "images/b/2.png", "images/a/1.png")
    images = tmp_path / "images"
    (tmp_path / "the same images").symlink_to(images)
    write(images, "a/2.png")
    assert read(tmp_path / "the same images")[0] == ["a", "b"], "a link to the whole folder"
    (images / "b/3.png").symlink_to(tmp_path / "elsewhere/1.png")
    assert sum(map(len, read(images)[1:])) == 5, "a link to a picture"
    (images / "b/.hidden").symlink_to(tmp_path / "elsewhere")
    read(images)
    (images / "c").symlink_to(tmp_path / "elsewhere")
    (images / "b/up").symlink_to("..")
    message = problem(images)
    assert f"{images}: found links to folders: b/up, c. DVC does not look into them" in message


def test_a_photo_is_upright_opaque_and_of_the_shape_asked_for(tmp_path: Path) -> None:
    pixels = np.zeros((20, 40, 4), np.uint8)  # the left half is red, the right half transparent
    pixels[:, :20] = 255, 0, 0, 255
    file = BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by 90 degrees
    Image.fromarray(pixels).save(file, "png", exif=exif)
    image = read_photo(file, (3, 10, 12))
    assert image.shape == (3, 10, 12)
    assert image.dtype == np.uint8
    assert image[:, 1, 6].tolist() == [255, 0, 0]
    assert image[:, 8, 6].tolist() == [255, 255, 255]
    grey = read_photo(file, (1, 10, 12))
    assert grey.shape == (1, 10, 12)
    assert (grey[0, 1, 6], grey[0, 8, 6]) == (76, 255)


def test_a_photo_is_reduced_without_aliasing() -> None:
    stripes = np.zeros((64, 64), np.uint8)
    stripes[:, ::2] = 255
    file = BytesIO()
    Image.fromarray(stripes).save(file, "png")
    assert np.abs(read_photo(file, (1, 8, 8))[0, 1:-1, 1:-1].astype(int) - 127).max() < 8


def test_a_photo_of_a_single_colour_is_one_and_text_is_none(tmp_path: Path) -> None:
    write(tmp_path, "grey.png")
    assert not read_photo(tmp_path / "grey.png", (3, 8, 8)).any()
    with pytest.raises(PictureError, match="the text: not a picture of a known format"):
        read_photo(BytesIO(b"text"), (3, 8, 8), "the text")


@pytest.mark.parametrize(
    ("pixel_type", "kind", "values"),
    [
        (np.uint16, "png", {0: 0, 1000: 4, 32896: 128, 65535: 255}),
        (np.uint16, "tiff", {0: 0, 1000: 4, 60000: 233}),
        (">u2", "tiff", {1000: 4, 60000: 233}),
        (np.int32, "tiff", {0: 0, 1000: 4, 60000: 233, -200: "-200 to -200", 65700: "65700 to"}),
        (np.float32, "tiff", {0: 0, 0.25: 64, 1: 255, 1.01: "1.01 to 1.01", -0.5: "-0.5 to -0.5"}),
    ],
)
def test_deep_photos_are_scaled_by_the_range_of_their_type(
    pixel_type: str | type, kind: str, values: dict[float, int | str]
) -> None:
    for value, expected in values.items():
        file = BytesIO()
        Image.fromarray(np.full((8, 8), value, pixel_type)).save(file, kind)
        if isinstance(expected, str):
            message = f"a name: found grey values from {expected}.*, expected integers from 0 to 65"
            with pytest.raises(PictureError, match=message):
                read_photo(file, (1, 8, 8), "a name")
        else:
            assert (read_photo(file, (1, 8, 8)) == expected).all(), value


def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    write(tmp_path, *(f"{name}/{n}.png" for name in "ab" for n in "12"))
    (tmp_path / "a/closed").mkdir(mode=0)
    if os.access(tmp_path / "a/closed", os.R_OK):
        pytest.skip("root reads every folder")
    with pytest.raises(PermissionError, match="closed"):
        read(tmp_path)
