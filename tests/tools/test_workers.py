"""Which experiments in the queue are warned of."""

import subprocess
from pathlib import Path

import pytest
import workers


def test_data_that_a_queued_experiment_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(workers, "ROOT", tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/none").touch()
    (tmp_path / "params.yaml").write_text("folder: photos\n")  # of a version without `arrays`
    identity = ["-c", "user.name=Reader", "-c", "user.email=reader@example.org"]
    for command in (["init", "-q"], ["add", "."], [*identity, "commit", "-qm", "queued"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    workers.check_data("tidy-crab", "HEAD")
    output = capsys.readouterr().out
    assert output.startswith("warning: experiment tidy-crab: folder: photos is tracked by neither")
    assert output.count("\n") == 1
