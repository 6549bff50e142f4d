"""Read the dataset that params.yaml names, wherever it comes from."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from ..common.settings import Blocks, OneOf
from ..raw.sources import DatasetSettings
from .arrays import read_arrays
from .decoded import DecodedDataset
from .digits import read_digits
from .folders import PICTURES, read_folder
from .raw import read_raw


class PreprocessSettings(DatasetSettings):
    """Settings of the preprocess stage."""

    picture: Annotated[str, OneOf(PICTURES)]
    pictures: Annotated[dict[str, dict[str, Any]], Blocks(PICTURES)]
    validation_fraction: Annotated[float, Field(ge=0, le=0.9)]


def read_dataset(settings: PreprocessSettings, root: Path) -> DecodedDataset:
    """Read the dataset of a project in `root`: its data/raw, folder, arrays or the embedded digits.

    Raises UserError: files are missing or damaged, or pictures or arrays cannot be used.
    """
    if settings.dataset == "folder":
        folder, scratch = root / settings.folder, root / "data/processed"
        scratch.mkdir(parents=True, exist_ok=True)
        return read_folder(folder, settings.picture, settings.block("picture"), scratch)
    if settings.dataset == "arrays":
        return read_arrays(root / settings.arrays, settings.picture)
    if settings.dataset == "digits":
        return read_digits()
    return read_raw(root / "data/raw", settings.dataset)
