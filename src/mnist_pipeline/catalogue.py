"""The MNIST-like datasets that torchvision knows: their files, checksums, sites and classes."""

import ast
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .fetching import RemoteFile

TORCHVISION = {
    "mnist": "MNIST",
    "fashion_mnist": "FashionMNIST",
    "kmnist": "KMNIST",
    "qmnist": "QMNIST",
}
"""The name of each dataset's class in torchvision.datasets."""


@cache
def constants(class_name: str) -> dict[str, Any]:
    """The literal attributes of a class in torchvision.datasets.mnist, such as `resources`.

    They are read from torchvision's source text: importing it takes seconds, longer than all else
    that the download stage does.
    """
    package = find_spec("torchvision")
    if package is None or not package.submodule_search_locations:
        raise ModuleNotFoundError("No module named 'torchvision'", name="torchvision")
    source = Path(package.submodule_search_locations[0]) / "datasets/mnist.py"
    module = ast.parse(source.read_text("utf-8"))
    (definition,) = [
        node for node in module.body if isinstance(node, ast.ClassDef) and node.name == class_name
    ]
    found = {}
    for statement in definition.body:
        if isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value:
            target = (
                statement.target if isinstance(statement, ast.AnnAssign) else statement.targets[0]
            )
            with suppress(ValueError):  # not a literal
                found[ast.unparse(target)] = ast.literal_eval(statement.value)
    return found


def remote_files(dataset: str) -> list[RemoteFile]:
    """The training images and labels and the test images and labels of a dataset, in this order."""
    known = constants(TORCHVISION[dataset])
    if isinstance(known["resources"], dict):  # QMNIST: whole addresses, by subset
        addresses = [*known["resources"]["train"], *known["resources"]["test"]]
        split = [(*address.rsplit("/", 1), md5) for address, md5 in addresses]
        return [RemoteFile(name, md5, (site,)) for site, name, md5 in split]
    return [RemoteFile(name, md5, tuple(known["mirrors"])) for name, md5 in known["resources"]]


def class_names(dataset: str) -> list[str]:
    """The names of a dataset's classes, by label; "0 - zero" is shortened to "0"."""
    return [name.split(" - ")[0] for name in constants(TORCHVISION[dataset])["classes"]]
