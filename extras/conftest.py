"""Tests of extras use the fixtures of tests/."""

from tests.conftest import (
    digits,
    digits_folder,
    mnist_folder,
    mnist_mirror,
    model_file,
    same_random_state,
)
from tests.pipeline.conftest import (
    clone,
    digits_run,
    fork_server,
    fresh_clone,
    project,
    project_on_gpus,
    quick_project,
    real_processes,
    two_processes,
)

__all__ = [
    "clone",
    "digits",
    "digits_folder",
    "digits_run",
    "fork_server",
    "fresh_clone",
    "mnist_folder",
    "mnist_mirror",
    "model_file",
    "project",
    "project_on_gpus",
    "quick_project",
    "real_processes",
    "same_random_state",
    "two_processes",
]
