"""Arrays as people have them: the same splits as from the original files, or one line says why."""

import re
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mnist_pipeline.common.errors import UserError
from mnist_pipeline.splits.arrays import read_arrays
from mnist_pipeline.splits.batches import load_info, load_split
from mnist_pipeline.splits.digits import read_digits
from mnist_pipeline.splits.write import write_splits

Arrays = dict[str, np.ndarray]


def small(channels: int | None = None) -> Arrays:
    """Thirty images of three classes, without a test split."""
    shape = (30, 12, 12, *([channels] if channels else []))
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    return {"x_train": images, "y_train": np.arange(30) % 3}


def save(folder: Path, arrays: Arrays, name: str = "a.npz") -> Path:
    np.savez_compressed(folder / name, **arrays)  # type: ignore[arg-type]
    return folder / name


def save_table(path: Path, images: np.ndarray, labels: np.ndarray) -> Path:
    """Write images and labels as Kaggle's train.csv has them."""
    pixels = images.reshape(len(images), -1)
    header = ",".join(["label", *(f"pixel{number}" for number in range(pixels.shape[1]))])
    rows = np.column_stack([labels, pixels])
    np.savetxt(path, rows, "%d", ",", header=header, comments="")
    return path


def split_files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.npy")
    }


def test_the_keys_of_keras_give_the_same_splits(digits_folder: Path, tmp_path: Path) -> None:
    digits = read_digits()
    arrays = {
        f"{kind}_{split}": array
        for split, part in (("train", digits.train), ("test", digits.test))
        for kind, array in (("x", part.images[:, 0]), ("y", part.labels.astype(np.uint8)))
    }
    found = read_arrays(save(tmp_path, arrays))
    assert (found.classes, found.picture) == (digits.classes, "glyph")
    write_splits(found, 0.1, tmp_path / "processed")
    assert split_files(tmp_path / "processed") == split_files(digits_folder)


@pytest.mark.parametrize("channels", [None, 1, 3])
def test_the_keys_of_medmnist(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], channels: int | None
) -> None:
    arrays: Arrays = {}
    for number, split in enumerate(("train", "val", "test"), 1):
        images = small(channels)["x_train"][: 6 * number] // number
        arrays |= {
            f"{split}_images": images,
            f"{split}_labels": np.arange(len(images))[:, None] % 2,
        }
    path = save(tmp_path, arrays | {"classes": np.array(["benign", "größer"])})
    write_splits(read_arrays(path, "glyph"), 0.1, tmp_path)
    for split in ("train", "val", "test"):
        written = load_split(tmp_path, "validation" if split == "val" else split)
        images = arrays[f"{split}_images"].reshape(-1, 12, 12, channels or 1)
        assert np.array_equal(written.data.numpy(), images.transpose(0, 3, 1, 2))
        assert np.array_equal(written.labels, arrays[f"{split}_labels"][:, 0])
    info = load_info(tmp_path)
    assert (info.classes, info.shape) == (["benign", "größer"], [channels or 1, 12, 12])
    assert info.picture == "photo", "only 28 × 28 grey pixels can be a glyph"
    line = f"{path}: has a validation split, so validation_fraction is not used\n"
    assert capsys.readouterr().out == line


def test_a_table_of_pixels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arrays = small()
    for encoding in ("utf-8", "utf-8-sig"):
        path = save_table(tmp_path / "train.csv", arrays["x_train"], arrays["y_train"])
        path.write_text(path.read_text().replace("label", '"label"'), encoding, newline="\r\n")
        found = read_arrays(path)
        assert found.classes == ["0", "1", "2"]
        images = np.concatenate([found.train.images, found.test.images])[:, 0]
        assert sorted(map(bytes, images)) == sorted(map(bytes, arrays["x_train"]))
        for split, count in ((found.train, 8), (found.test, 2)):
            assert np.bincount(split.labels).tolist() == [count] * 3
            for image, label in zip(split.images[:, 0], split.labels, strict=True):
                (place,) = np.flatnonzero((arrays["x_train"] == image).all((1, 2)))
                assert arrays["y_train"][place] == label
        same = read_arrays(save(tmp_path, arrays))
        assert np.array_equal(found.test.images, same.test.images)
        line = "has no test split; a fifth of the images becomes one, stratified by class\n"
        assert capsys.readouterr().out == f"{path}: {line}{tmp_path / 'a.npz'}: {line}"


def test_real_mnist_as_arrays(mnist_folder: Path, tmp_path: Path) -> None:
    arrays: Arrays = {}
    for split in ("train", "test"):
        original = load_split(mnist_folder, split)
        arrays[f"x_{split}"] = original.data[:, 0].numpy()
        arrays[f"y_{split}"] = original.labels.numpy().astype(np.uint8)
    np.savez(tmp_path / "mnist.npz", **arrays)  # type: ignore[arg-type]
    write_splits(read_arrays(tmp_path / "mnist.npz"), 0.0, tmp_path)
    assert split_files(tmp_path) == split_files(mnist_folder)
    first = arrays["x_train"][:500], arrays["y_train"][:500]
    table = read_arrays(save_table(tmp_path / "train.csv", *first))
    as_array = read_arrays(save(tmp_path, dict(zip(("x_train", "y_train"), first, strict=True))))
    for found, expected in ((table.train, as_array.train), (table.test, as_array.test)):
        assert np.array_equal(found.images, expected.images)
        assert np.array_equal(found.labels, expected.labels)


Change = Callable[[Arrays], Arrays]
X, Y = (
    r"x_train: found {}, expected uint8 \[N, H, W\]",
    r"y_train: found {}, expected integers \[30\]",
)
WRONG: dict[str, Change] = {
    X.format(r"float64 \(30, 12, 12\)"): lambda a: {"x_train": a["x_train"] / 255},
    X.format(r"bool \(30, 12, 12\)"): lambda a: {"x_train": a["x_train"] > 9},
    X.format(r"uint8 \(30, 12, 11\)"): lambda a: {"x_train": a["x_train"][..., 1:]},
    X.format(r"uint8 \(30, 3, 12, 12\)"): lambda a: {"x_train": np.stack([a["x_train"]] * 3, 1)},
    X.format(r"uint8 \(30, 12, 12, 4\)"): lambda a: {"x_train": np.stack([a["x_train"]] * 4, 3)},
    X.format(r"uint8 \(0, 12, 12\)"): lambda a: {"x_train": a["x_train"][:0]},
    "x_train: Object arrays cannot be loaded": lambda a: {"x_train": a["x_train"].astype(object)},
    Y.format(r"float64 \(30,\)"): lambda a: {"y_train": a["y_train"] / 1},
    Y.format(r"bool \(30,\)"): lambda a: {"y_train": a["y_train"] > 1},
    Y.format(r"int64 \(29,\)"): lambda a: {"y_train": a["y_train"][1:]},
    Y.format(r"float64 \(30, 3\)"): lambda a: {"y_train": np.eye(3)[a["y_train"]]},
    "found 3 training labels from -1 to 1, expected each from 0 to 2": lambda a: {
        "y_train": a["y_train"] - 1
    },
    "found 3 training labels from 0 to 4, expected each from 0 to 2": lambda a: {
        "y_train": a["y_train"] * 2
    },
    "found 1 training labels from 0 to 0, expected each from 0 to 1": lambda a: {
        "y_train": a["y_train"] * 0
    },
    "found 3 training labels from 0 to 2, expected each from 0 to 3": lambda _: {
        "classes": np.array([*"abcd"])
    },
    "found no test split and one image per class, expected a class of two": lambda a: {
        "x_train": a["x_train"][:3], "y_train": np.arange(3)
    },
    r"classes: found <U1 \(3,\), expected a text per class, all": lambda _: {
        "classes": np.array([*"aba"])
    },
    r"classes: found int64 \(3,\), expected a text per class": lambda _: {"classes": np.arange(3)},
    "found x_train, y_train, train_labels for the train split, expected x_train and y": lambda a: {
        "train_labels": a["y_train"]
    },
    r"classes: found the class '\\x1b\[2J', expected a name without": lambda _: {
        "classes": np.array(["a", "\33[2J", "c"])
    },
    r"classes: found the class '\\udc80', expected a name without": lambda _: {
        "classes": np.array(["a", "\udc80", "c"])
    },
    "classes: found the class '', expected a name without": lambda _: {
        "classes": np.array(["a", "", "c"])
    },
    "found no y_test, expected x_test and y_test": lambda a: {"x_test": a["x_train"]},
    "y_test: found labels from 1 to 3, expected 0 to 2": lambda a: {
        "x_test": a["x_train"], "y_test": a["y_train"] + 1
    },
    r"x_val: found images \[C, H, W\] \(1, 11, 11\), expected \(1, 12, 12\)": lambda a: {
        "x_val": a["x_train"][:, 1:, 1:], "y_val": a["y_train"]
    },
}  # fmt: skip
"""What is said of small() with an array that was changed or added."""


@pytest.mark.parametrize("message", WRONG)
def test_arrays_that_cannot_be_used_are_named(tmp_path: Path, message: str) -> None:
    path = save(tmp_path, small() | WRONG[message](small()))
    with pytest.raises(UserError, match=f"^{re.escape(str(path))}: .*{message}[^\n]*$"):
        read_arrays(path)


HEADER = "label,p0,p1,p2,p3\n"
FOREIGN = {
    ("a.npz", b""): "a.npz: File is not a zip file; expected what np.savez writes",
    ("a.NPZ", b"PK\3\4"): "a.NPZ: File is not a zip file",
    ("a.npy", b""): "expected a file whose name ends in .npz or .csv",
    ("a.csv", b""): "found  and 0 more columns, expected label and a square of pixels",
    ("a.csv", b"0,1,2,3,4\n"): "found 0 and 4 more columns, expected label and a square",
    ("a.csv", b"label,a,b,c\n1,1,2,3\n"): "found label and 3 more columns, expected label and",
    ("a.csv", HEADER.encode()): "found 0 rows of 1 values, expected 5, as in the header",
    ("a.csv", (HEADER + "0,1,2,3\n").encode()): "found 1 rows of 4 values, expected 5",
    ("a.csv", (HEADER + "0,1,2,3,4\n1,1,2,3\n").encode()): "columns changed from 5 to 4 at row 2",
    ("a.csv", (HEADER + "0,1,2,3,0.5\n").encode()): "string '0.5' to int16 at row 0, column 5",
    ("a.csv", (HEADER + "0,1,,3,4\n").encode()): "string '' to int16 at row 0, column 3.; expected",
    ("a.csv", (HEADER + "0,1,2,3,256\n").encode()): "found pixels from 1 to 256, expected 0 to 255",
    ("a.csv", (HEADER + "0,1,2,3,-1\n").encode()): "found pixels from -1 to 3, expected 0 to 255",
    ("a.csv", (HEADER + "7,1,2,3,4\n").encode()): "found 1 training labels from 7 to 7, expected",
    ("a.csv", b"label,a\n\xff,1\n"): "'utf-8' codec can't decode byte 0xff",
}  # fmt: skip


@pytest.mark.parametrize(("file", "message"), FOREIGN.items())
def test_other_files_are_named(tmp_path: Path, file: tuple[str, bytes], message: str) -> None:
    path = tmp_path / file[0]
    path.write_bytes(file[1])
    with pytest.raises(UserError, match=f"{re.escape(str(path))}: [^\n]+$") as caught:
        read_arrays(path)
    assert message in str(caught.value)


def test_a_missing_file_and_foreign_keys(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match=r"^arrays: .*nowhere\.npz: No such file or directory$"):
        read_arrays(tmp_path / "nowhere.npz")
    images, labels = small().values()
    with pytest.raises(UserError, match="found the keys a, b; expected x_train and y_train, or"):
        read_arrays(save(tmp_path, {"a": images, "b": labels}))
    path = save(tmp_path, small() | {"\33[2J": labels.astype(object), "label": labels})
    read_arrays(path)
    assert capsys.readouterr().out.startswith(f"{path}: left out the keys \\x1b[2J, label\n")


def test_more_than_fits_in_memory_is_no_fault_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    header = {"descr": "|u1", "fortran_order": False, "shape": (2**30, 2**14, 2**14)}
    with ZipFile(path, "w") as file, file.open("x_train.npy", "w") as member:
        np.lib.format.write_array_header_1_0(member, header)
    with pytest.raises(MemoryError):
        read_arrays(path)


@given(data=st.data())
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_damage_is_seen_or_harms_nothing(tmp_path: Path, data: st.DataObject) -> None:
    path = save(tmp_path, small())
    content = bytearray(path.read_bytes())
    position = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        del content[position:]
    else:
        content[position] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    try:
        found = read_arrays(path)
    except UserError as error:
        assert str(error).startswith((f"{path}: ", "arrays: "))
        assert "\n" not in str(error)
    else:  # a byte of a date, for example
        images = np.concatenate([found.train.images, found.test.images])[:, 0]
        assert sorted(map(bytes, images)) == sorted(map(bytes, small()["x_train"]))
