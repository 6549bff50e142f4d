"""Read the dataset that params.yaml names, wherever it comes from."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from ..common.settings import Blocks, OneOf, Settings
from ..raw.sources import DATASETS
from .decoded import DecodedDataset
from .digits import read_digits
from .folders import PICTURES, read_folder
from .raw import read_raw

NO_FOLDER = "data/none"
"""Value of `folder` when the dataset is not a folder: a file that never changes."""


class PreprocessSettings(Settings):
    """Settings of the preprocess stage."""

    dataset: Annotated[str, OneOf(DATASETS)]
    folder: Annotated[str, Field(min_length=1)]
    picture: Annotated[str, OneOf(PICTURES)]
    pictures: Annotated[dict[str, dict[str, Any]], Blocks(PICTURES)]
    validation_fraction: Annotated[float, Field(ge=0, le=0.9)]

    @model_validator(mode="after")
    def _folder_needs_dataset_folder(self) -> "PreprocessSettings":
        if (self.dataset == "folder") == (self.folder == NO_FOLDER):
            raise PydanticCustomError(
                "conflict",
                "dataset: folder needs a folder of pictures, and any other dataset folder:"
                " {none}; found dataset: {dataset}, folder: {folder}",
                {"none": NO_FOLDER, "dataset": self.dataset, "folder": self.folder},
            )
        return self


def read_dataset(settings: PreprocessSettings, root: Path) -> DecodedDataset:
    """Read the dataset of a project in `root`: its data/raw, its folder or the embedded digits.

    Raises UserError: files are missing or damaged, or pictures cannot be used.
    """
    if settings.dataset == "folder":
        folder = root / settings.folder
        return read_folder(folder, settings.picture, settings.block("picture"))
    if settings.dataset == "digits":
        return read_digits()
    return read_raw(root / "data/raw", settings.dataset)
