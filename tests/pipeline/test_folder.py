"""One's own pictures: dataset: folder, from PNG files to tables, and never stale."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageDraw

from mnist_pipeline.common.errors import UserError
from mnist_pipeline.handwriting.decode import PictureError
from mnist_pipeline.splits.folders import read_folder

from .project import Project, ran
from .test_stale import stale


def write_pictures(folder: Path, names: list[str], count: int, first: int = 0) -> None:
    """`count` rectangles a class, each class of another height, none like another."""
    for number, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for index in range(first, first + count):
            pixels = np.full((60, 60), 255, np.uint8)
            pixels[5 : 10 + 10 * number, 10 : 30 + index] = 0
            Image.fromarray(pixels).save(folder / name / f"{index}.png")


NAMES = ["größe 1", "the second", "三"]


def test_a_folder_of_pictures_is_never_stale(clone: Project) -> None:
    pictures = clone.folder.parent / "my pictures (1), all of them"
    write_pictures(pictures, NAMES, 20)
    (pictures / "notes.txt").write_text("not a picture")
    settings = ["-S", "dataset=folder", "-S", f"folder='{pictures}'"]
    output = clone.dvc("exp", "run", *settings, "preprocess")
    assert ran(output) == ["download", "preprocess"]
    assert "folder: nothing to download" in output
    assert "folder: 43 train, 5 validation, 12 test images of 3 classes" in output

    def is_stale() -> bool:
        return "preprocess" in stale(clone)

    assert not is_stale()
    picture = pictures / "三/3.png"
    before = picture.read_bytes()
    picture.write_bytes((pictures / "三/4.png").read_bytes())
    assert is_stale(), "changed"
    picture.unlink()
    assert is_stale(), "removed"
    picture.write_bytes(before)
    assert not is_stale(), "as it was"
    (pictures / "三/another.png").write_text("no picture")
    assert is_stale(), "added"
    output = clone.dvc("repro", status=None)
    assert "another.png: not a picture of a known format" in output
    assert "Traceback" not in output


COLOURS = dict(zip(NAMES, [(40, 90, 220), (40, 150, 60), (200, 60, 40)], strict=True))


def write_photos(folder: Path, count: int) -> None:
    """The same shapes in every class, each class in another colour."""
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True)
        for index in range(count):
            picture = Image.new("RGB", (48, 40), (150 + 4 * index,) * 3)
            place = (2 + index, 5, 20 + index, 30)
            draw = ImageDraw.Draw(picture)
            (draw.rectangle if index % 2 else draw.ellipse)(place, colour)
            picture.save(folder / name / f"{index}.{('png', 'webp', 'gif')[index % 3]}")


def test_photos_in_colour_go_through_the_pipeline(clone: Project, tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 20)
    settings = {
        "dataset": "folder", "folder": str(tmp_path / "photos"), "picture": "photo",
        "normalization": "standard",
        "optimizer": "adam", "epochs": 12, "batch_size": 8, "model": "cnn",
        "augmentation": "affine",
    }  # fmt: skip
    clone.set_params(**settings)
    cnn = ["-S", "models.cnn.channels=[[8],[8],[16],[16]]", "-S", "optimizers.adam.lr=0.01"]
    output = clone.dvc("exp", "run", *cnn)
    assert ran(output) == ["download", "preprocess", "train", "evaluate"]
    images = np.load(clone.folder / "data/processed/test/images.npy")
    assert (images.shape, images.dtype) == ((12, 3, 32, 32), np.uint8)
    assert clone.read("metrics/test.json")["accuracy"] == 1
    assert pd.read_csv(clone.folder / "metrics/classes.csv")["class"].tolist() == NAMES
    actual = pd.read_csv(clone.folder / "metrics/predictions.csv")["actual"]
    assert actual.value_counts().to_dict() == dict.fromkeys(NAMES, 4)
    for name in ("samples", "first_layer"):
        pixels = np.asarray(Image.open(clone.folder / f"metrics/pictures/{name}.png")).astype(int)
        assert np.ptp(pixels, axis=2).max() > 100, f"{name} is grey"

    picture = str(tmp_path / "photos/the second/1.webp")
    command = ["python", "tools/predict.py", "--show", picture]
    answer, *drawing = clone.run(*command).splitlines()
    assert answer.startswith(f"{picture}: the second (")
    assert len(drawing) == 32
    assert np.shape(json.loads(clone.run(*command, "--json"))["image"]) == (3, 32, 32)
    assert "12 of 12 predictions equal PyTorch's" in clone.run("python", "tools/export.py")


def test_pictures_that_an_experiment_would_not_have_are_named(clone: Project) -> None:
    clone.install()
    write_pictures(clone.folder / "shapes", NAMES, 2)
    sentence = "folder: shapes is tracked by neither Git nor DVC"
    settings = ["-S", "dataset=folder", "-S", "folder=shapes"]
    clone.dvc("exp", "run", "--queue", "--name", "relative", *settings)
    (clone.folder / "a.npz").touch()
    settings = ["-S", "dataset=arrays", "-S", "arrays=a.npz"]
    clone.dvc("exp", "run", "--queue", "--name", "file", *settings)
    write_pictures(clone.folder / "tracked/shapes", NAMES, 2)
    clone.dvc("add", "tracked")
    clone.run("git", "add", "tracked.dvc", ".gitignore")
    settings = ["-S", "dataset=folder", "-S", "folder=tracked/shapes"]
    clone.dvc("exp", "run", "--queue", "--name", "below", *settings)
    clone.run("sh", "-c", "make queue >log 2>&1")  # the worker would hold a pipe open
    clone.dvc("queue", "stop", "--kill")
    log = (clone.folder / "log").read_text()
    assert f"warning: experiment relative: {sentence}" in log
    assert "warning: experiment file: arrays: a.npz is tracked by neither Git nor DVC" in log
    assert "experiment below" not in log


def test_other_datasets_use_no_folder(project: Project) -> None:
    lock = project.read("dvc.lock")["stages"]["preprocess"]["deps"]
    assert "data/none" in [dep["path"] for dep in lock]
    for settings in ({"folder": "metrics/pictures"}, {"dataset": "folder", "folder": "data/none"}):
        project.set_params(**settings)
        output = project.run("python", "stages/preprocess.py", status=2)
        assert "dataset: folder needs a folder of pictures" in output


def test_a_folder_that_dvc_cannot_track_is_refused(project: Project) -> None:
    project.set_params(dataset="folder", folder="~/pics")
    output = project.dvc("repro", status=255)
    assert f"folder: found ~/pics, expected {project.env['HOME']}/pics: DVC knows no ~" in output
    project.set_params(folder="data")
    output = project.dvc("repro", status=255)
    assert "both a dependency and an output in stage: preprocess" in output


def test_from_a_folder_back_to_the_digits_takes_two_settings(project: Project) -> None:
    before = project.outs()
    write_pictures(project.folder / "shapes", NAMES, 20)
    options = {"dataset": "folder", "folder": "shapes", "picture": "photo"}
    settings = [f"--set-param={name}={value}" for name, value in options.items()]
    project.dvc("exp", "run", *settings, "-S", "pictures.photo.image_size=8")
    assert project.outs() != before
    project.dvc("exp", "run", "-S", "dataset=digits", "-S", "folder=data/none")
    assert project.outs() == before


def test_new_packages_convert_the_pictures_again(clone: Project) -> None:
    write_pictures(clone.folder / "shapes", NAMES, 5)
    settings = ["-S", "dataset=folder", "-S", "folder=shapes", "-S", "validation_fraction=0"]
    clone.dvc("exp", "run", *settings, "preprocess")
    lock = clone.folder / "requirements.lock"
    lock.write_text(lock.read_text().replace("scipy==", "scipy==99."))
    assert stale(clone) == {"preprocess", "train", "evaluate"}


def test_train_and_test_folders_are_kept_apart(tmp_path: Path) -> None:
    write_pictures(tmp_path / "train", NAMES, 3)
    write_pictures(tmp_path / "test", NAMES[:2], 2, first=5)
    found = read_folder(tmp_path)
    assert found.classes == NAMES
    assert found.train.labels.tolist() == [0] * 3 + [1] * 3 + [2] * 3
    assert found.test.labels.tolist() == [0, 0, 1, 1]
    assert (len(found.train.images), len(found.test.images)) == (9, 4)
    write_pictures(tmp_path / "test", ["unknown"], 1)
    with pytest.raises(UserError, match="unknown: train has no such class"):
        read_folder(tmp_path)


def test_more_classes_than_a_byte_can_count(tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    Image.fromarray(np.eye(30, dtype=np.uint8) * 255).save(picture)
    names = [f"{number:03}" for number in range(257)]
    for name in names:
        (tmp_path / "all" / name).mkdir(parents=True)
        for copy in ("a.png", "b.PNG"):
            shutil.copy(picture, tmp_path / "all" / name / copy)
    found = read_folder(tmp_path / "all")
    assert found.classes == names
    for split in (found.train, found.test):
        assert split.labels.tolist() == list(range(257))


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    def problem(folder: Path) -> str:
        with pytest.raises(UserError) as caught:
            read_folder(folder)
        return str(caught.value)

    assert "nowhere: found nothing there, expected a folder" in problem(tmp_path / "nowhere")
    assert "found the sub-folders none; expected two or more" in problem(tmp_path)
    write_pictures(tmp_path, ["a", "b"], 2)
    (tmp_path / "b/1.png").unlink()
    assert "b: found 1 pictures, expected two or more" in problem(tmp_path)
    (tmp_path / "b/1.png").touch()
    with pytest.raises(PictureError, match=r"b/1\.png: found an empty file"):
        read_folder(tmp_path)
    write_pictures(tmp_path / "codes", ["a", "\33[2J"], 2)
    assert "expected a name without control characters" in problem(tmp_path / "codes")
    shutil.rmtree(tmp_path / "codes")
    write_pictures(tmp_path, ["train", "test"], 2)
    assert "found a, b, test, train, expected only train and test" in problem(tmp_path)
