"""params.yaml: what is accepted, and what its reader is told about the rest."""

import copy
import re
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.utils.serialize import ParseError, load_yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mnist_pipeline.common.settings import read_settings
from mnist_pipeline.common.yamlfiles import ParamsError, read_yaml
from mnist_pipeline.training.settings import TrainSettings

from ..conftest import CHOSEN, ROOT
from ..settings import BLOCKS, STAGES, Params

DEFAULTS = yaml.safe_load((ROOT / "params.yaml").read_text().replace("1e-8", "1.0e-8")) | CHOSEN


def problems(tmp_path: Path, text: str) -> str:
    path = tmp_path / "params.yaml"
    path.write_text(text, "utf-8")
    with pytest.raises(ParamsError) as caught:
        read_settings(path, Params)
    assert caught.value.exit_code == 2
    return str(caught.value)


def in_pipeline(tmp_path: Path, text: str) -> Path:
    """A params.yaml beside the dvc.yaml that says which settings belong to other stages."""
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    (tmp_path / "params.yaml").write_text(text, "utf-8")
    return tmp_path / "params.yaml"


def changed(**settings: Any) -> str:
    """The default params.yaml with some settings replaced; `__` stands for the dot."""
    content = copy.deepcopy(DEFAULTS)
    for name, value in settings.items():
        *parents, key = name.split("__")
        block = content
        for parent in parents:
            block = block[parent]
        block[key] = value
    return yaml.safe_dump(content)


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").iterdir()), ids=lambda path: path.name)
def test_every_recipe_has_valid_settings(path: Path, tmp_path: Path) -> None:
    options = [line.split("=") for line in path.read_text().splitlines()]
    assert {option for option, *_ in options} == {"--set-param"}, (
        "one word a line, as fish takes it"
    )
    settings = {name: text for _, name, text in options}
    values = {name.replace(".", "__"): yaml.safe_load(text) for name, text in settings.items()}
    recipe = read_settings(in_pipeline(tmp_path, changed(**values)), TrainSettings)
    assert recipe.inputs() != read_settings(ROOT / "params.yaml", TrainSettings).inputs()
    for name, block in BLOCKS.items():
        for setting in settings:
            assert setting.split(".")[0] != block or setting.split(".")[1] == getattr(recipe, name)


def test_a_stage_is_given_its_own_settings_only() -> None:
    for stage in STAGES.values():
        params = read_settings(ROOT / "params.yaml", stage)
        assert set(params.model_dump()) == set(stage.model_fields)
        assert hasattr(params, "epochs") == (stage is TrainSettings)


@pytest.mark.parametrize("spelling", ["1e-3", "0.001", "1.0e-3", "1E-3", "+1e-3", "10e-4"])
def test_numbers_are_read_as_dvc_reads_them(tmp_path: Path, spelling: str) -> None:
    text = (ROOT / "params.yaml").read_text()
    path = in_pipeline(tmp_path, text.replace("sgd: {lr: 0.01", f"sgd: {{lr: {spelling}"))
    assert read_settings(path, TrainSettings).optimizers["sgd"]["lr"] == 0.001


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"epochs": "five"}, "epochs: found five, expected a valid integer"),
        ({"epochs": 0}, "epochs: found 0, expected greater than or equal to 1"),
        ({"epochs": 2.5}, "epochs: found 2.5, expected a valid integer"),
        ({"epochs": True}, "epochs: found true, expected a valid integer"),
        ({"epoch": 3}, "epoch: unknown setting; did you mean epochs?"),
        ({"optimizer": "rmsprob"}, "one of sgd, adam, adamw, rmsprop; did you mean rmsprop?"),
        ({"loss": "cross-entropy"}, "did you mean cross_entropy?"),
        ({"models__cnn__channels": []}, "models.cnn.channels"),
        ({"models__cnn__channels": [[16], []]}, "models.cnn.channels.1"),
        ({"picture": "foto"}, "one of glyph, photo; did you mean photo?"),
        ({"folder": "images"}, "dataset: folder needs a folder of pictures, and any other dataset"),
        ({"dataset": "folder"}, "found dataset: folder, folder: data/none"),
        ({"arrays": "a.npz"}, "dataset: arrays needs a .npz or .csv file, and any other dataset"),
        ({"dataset": "arrays"}, "found dataset: arrays, arrays: data/none"),
        ({"arrays": "~nosuchuser/a.npz"}, ": DVC knows no ~"),
        ({"folder": "~nosuchuser/pictures"}, ": DVC knows no ~"),  # Windows has a home for anybody
        ({"pictures__photo__image_size": 4}, "photo.image_size: found 4, expected greater"),
        ({"pictures__photo__channels": 4}, "photo.channels: found 4, expected one of 1, 3"),
        ({"pictures__glyph": {"channels": 3}}, "pictures.glyph.channels: unknown setting"),
        ({"augmentations__afine": {}}, "afine: unknown setting; did you mean affine?"),
        ({"models__cnn__kernel_size": 4}, "kernel_size: found 4, expected one of 1, 3, 5, 7, 9"),
        ({"shuffle": "blocks"}, "shuffle: found blocks, expected a valid boolean"),
        ({"launcher": " "}, "launcher: found ' ', expected a command, such as python"),
        ({"augmentation": "afine"}, "augmentation: found afine, expected one of none, affine"),
        ({"augmentations__affine__shear": 90}, "augmentations.affine.shear: found 90, expected"),
        ({"ensemble": 2}, "ensemble: unknown setting"),
        ({"precision": "float16"}, "found float16, expected one of auto, float32, bfloat16"),
        ({"optimizers__sgd__lr": -1}, "optimizers.sgd.lr: found -1, expected greater than 0"),
        ({"optimizers__sgd__lr": float("nan")}, "optimizers.sgd.lr: found .nan, expected a finite"),
        ({"optimizers__sgd__lr": float("inf")}, "optimizers.sgd.lr: found .inf, expected a finite"),
        ({"optimizers__sgd__momentun": 0.9}, "momentun: unknown setting; did you mean momentum?"),
        ({"models__mlp__hidden_sizes": 512}, "hidden_sizes: found 512, expected a valid list"),
        ({"models__mlp__hidden_sizes": [512, 0]}, "models.mlp.hidden_sizes.1: found 0"),
        ({"models": []}, "models: found []"),
        ({"threads": 0}, "threads: found 0, expected auto, or a number of threads from 1 to 1024"),
        ({"device": None}, "device: found null, expected one of auto, cpu, cuda, mps"),
        ({"device": "gpu"}, "found gpu, expected one of auto, cpu, cuda, mps; did you mean cuda?"),
        ({"validation_fraction": 1}, "validation_fraction: found 1, expected less than"),
        ({"dataset": "手写数字"}, "dataset: found"),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_named(tmp_path: Path, settings: dict[str, Any], expected: str) -> None:
    assert expected in problems(tmp_path, changed(**settings))


@pytest.mark.parametrize("name", STAGES)
def test_a_setting_that_no_stage_has_is_an_error_of_every_stage(name: str, tmp_path: Path) -> None:
    text = changed(epochs="five", dataset="mnits", threads=0, picture="foto", epochz=3)
    path = in_pipeline(tmp_path, text)
    with pytest.raises(ParamsError) as caught:
        read_settings(path, STAGES[name])
    message = str(caught.value)
    assert "epochz: unknown setting; did you mean epochs?" in message
    settings = {"dataset", "picture", "epochs", "threads"}
    named = {setting for setting in settings if f"  {setting}: found" in message}
    assert named == settings & set(STAGES[name].model_fields)


def test_all_problems_are_listed_at_once(tmp_path: Path) -> None:
    message = problems(tmp_path, changed(epochs=-1, batch_size="big", optimiser="adam", loss="mae"))
    assert message.count("\n") == 4
    for setting in ("epochs", "batch_size", "optimiser", "loss"):
        assert f"\n  {setting}: " in message


def test_a_missing_setting_is_named(tmp_path: Path) -> None:
    text = (ROOT / "params.yaml").read_text()
    assert "seed: missing" in problems(tmp_path, text.replace("seed: 0", "", 1))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "found null, expected settings"),
        ("- a\n- b", "found [a, b], expected settings"),
        ("epochs: [1", "not readable as YAML"),
        ("epochs: 5\nepochs: 6", "epochs: found 6 in line 2, expected it to be set once"),
        ("\x00", "not readable as YAML"),
        ("? [a]\n: 1", "not readable as YAML"),
        ("1: 2", "1"),
        ("!!python/object/apply:os.system ['true']", "found !!python/object/apply:os.system ["),
    ],
)
def test_a_file_without_settings(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in problems(tmp_path, text)


@pytest.mark.parametrize(
    ("line", "setting", "found"),
    [
        ("seed: 0100", "seed", "0100"),
        ("batch_size: 1:30", "batch_size", "1:30"),
        ("shuffle: yes", "shuffle", "yes"),
        ("epochs: 1_0", "epochs", "1_0"),
        ("epochs: 0o17", "epochs", "0o17"),
        ("epochs: !!int 017", "epochs", "!!int 017"),
        ("folder: 2024-05-01", "folder", "2024-05-01"),
        ("augmentations: {affine: {rotation: 0x1F}}", "augmentations.affine.rotation", "0x1F"),
        ("models: {mlp: {hidden_sizes: [64, 010]}}", "models.mlp.hidden_sizes.1", "010"),
        ("optimizers: {sgd: &a {lr: 1}}", "optimizers.sgd", "&a {"),
        ("optimizers: {adam: {<<: *a}}", "optimizers.adam", "<<"),
        ("models: {off: 1}", "models", "off"),
    ],
)
def test_what_versions_of_yaml_read_differently_is_refused(
    tmp_path: Path, line: str, setting: str, found: str
) -> None:
    message = problems(tmp_path, f"# A comment\n{line}\n")
    assert message.startswith(f"{tmp_path}/params.yaml: {setting}: found {found} in line 2, ")


SCALARS = st.one_of(
    st.from_regex(r"\A[-+]?[0-9.][-+.:_0-9eExobaf]{0,7}\Z"),
    st.from_regex(r"\A[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([T ][0-9:.]{5,8}Z?)?\Z"),
    st.sampled_from(["yes", "Off", "y", "true", "NULL", "~", "-.inf", ".nan", "<<", "="]),
    st.text(st.characters(codec="utf-8"), max_size=8),
)


@settings(max_examples=300, deadline=None)
@given(SCALARS, st.sampled_from(["'%s'", '"%s"', "%s"]))
def test_values_are_read_as_dvc_reads_them_or_refused(
    tmp_path_factory: pytest.TempPathFactory, scalar: str, quotes: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "params.yaml"
    text = quotes.replace("%s", scalar)
    path.write_text(f"a:\n  b: {text}\n  c: [1, {{d: {text}}}]\n", "utf-8", newline="")
    try:
        read = read_yaml(path)
    except ParamsError as error:
        assert re.search("line [2-9]|not readable", str(error))
        return
    with suppress(ParseError):  # DVC runs no stage
        # As text: True is not 1, 1.0 not 1, and NaN is NaN.
        assert repr(read) == repr(load_yaml(path))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"params\.yaml: no such file"):
        read_settings(tmp_path / "params.yaml", Params)


VALID = {
    "epochs": st.integers(1, 1000),
    "seed": st.integers(0, 2**63 - 1),
    "keep": st.sampled_from(["last", "best"]),
    "validation_fraction": st.floats(0.01, 0.9),
    "mirrors": st.lists(st.text(st.characters(categories=["L", "N"])).map("https://{}".format)),
    "optimizers__sgd__lr": st.floats(1e-300, 1e300),
    "pictures__photo__image_size": st.integers(8, 512),
    "optimizers__adam__betas": st.lists(st.floats(0, 0.999), min_size=2, max_size=2),
    "models__mlp__hidden_sizes": st.lists(st.integers(1, 4096)),
}


@settings(max_examples=50, deadline=None)
@given(st.fixed_dictionaries({}, optional=VALID))
def test_valid_settings_come_back_as_written(
    tmp_path_factory: pytest.TempPathFactory, chosen: dict[str, Any]
) -> None:
    text = changed(**chosen)
    path = tmp_path_factory.mktemp("params") / "params.yaml"
    path.write_text(text, "utf-8")
    assert read_settings(path, Params).model_dump() == yaml.safe_load(text)


NAMES = [*Params.model_fields, "models.mlp", "optimizers.sgd", "optimizers.sgd.lr"]
WRONG = st.one_of(
    st.none(), st.text(max_size=8).map("{}?".format),  # which is neither a choice nor a number
    st.floats(max_value=-1e-9), st.integers(max_value=-1),
    st.just(float("nan")), st.just(10**400), st.dictionaries(st.text(), st.none(), max_size=2),
    st.lists(st.none(), min_size=1, max_size=3), st.binary(max_size=4), st.dates(),
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(NAMES), WRONG)
def test_whatever_is_wrong_is_named(
    tmp_path_factory: pytest.TempPathFactory, name: str, value: object
) -> None:
    assume(name != "launcher" or not isinstance(value, str))  # which may be any command
    text = changed(**{name.replace(".", "__"): value})
    assert name in problems(tmp_path_factory.mktemp("params"), text)


@pytest.mark.parametrize(
    "text", ["", "stages: 1", "stages: {train: echo}", "stages: [", "stages: {train: {meta: a}}"]
)
def test_a_file_that_is_no_pipeline_is_named(tmp_path: Path, text: str) -> None:
    path = in_pipeline(tmp_path, changed())
    (tmp_path / "dvc.yaml").write_text(text)
    with pytest.raises(ParamsError, match=r"dvc\.yaml: not a pipeline of DVC \("):
        read_settings(path, TrainSettings)


def test_empty_and_foreign_lists_of_a_pipeline_have_no_names(tmp_path: Path) -> None:
    path = in_pipeline(tmp_path, changed())
    more = {"params": [{"other.yaml": ["a"]}], "meta": None}
    pipeline = yaml.safe_load((tmp_path / "dvc.yaml").read_text())
    pipeline["stages"] |= {"more": more, "empty": {"params": None}}
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump(pipeline))
    assert read_settings(path, TrainSettings).epochs == 5
