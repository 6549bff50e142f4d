"""Watch runs in TensorBoard: python tools/board.py

The page is served on 127.0.0.1 only. It shows the workspace, HEAD and its experiments, and every
experiment that is running: in the workspace, in a temporary copy, in the queue, in `make search`.
All of it is read, every two seconds, from the files that the stages write for DVC and Git.
"""

import argparse
import csv
import threading
import time
import zipfile
from collections import defaultdict
from collections.abc import Mapping
from io import BytesIO
from typing import Any

from _tool import ROOT

from runs import Params, Run, find_runs
from tensorboard import program
from tensorboard.assets import get_default_assets_zip_provider
from tensorboard.backend.application import TensorBoardWSGIApp
from tensorboard.data import provider
from tensorboard.plugins.core.core_plugin import CorePluginLoader
from tensorboard.plugins.hparams.hparams_plugin import HParamsPlugin
from tensorboard.plugins.hparams.metadata import SESSION_START_INFO_TAG
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.plugins.metrics.metrics_plugin import MetricsPlugin
from tensorboard.plugins.scalar.scalars_plugin import ScalarsPlugin

from mnist_pipeline.common.errors import UserError, run

HOST = "127.0.0.1"
INTERVAL = 2  # seconds between two looks at the files
PAGE = {  # what is replaced in the files of TensorBoard's page, so that it begins with
    "index.html": {b"index.js?_file_hash=": b"index.js?board="},  # ... the file below, uncached
    "index.js": {  # ... a reload every 3 s, and neither smoothing nor values out of sight
        b"reloadPeriodInMs:3e4,reloadEnabled:!1": b"reloadPeriodInMs:3e3,reloadEnabled:!0",
        b"ignoreOutliers:!0,xAxis": b"ignoreOutliers:!1,xAxis",
        b"scalarSmoothing:.6": b"scalarSmoothing:0",
        b'_smoothingWeight",{defaultValue:.6': b'_smoothingWeight",{defaultValue:0',
        b'_ignoreYOutliers",{defaultValue:!0': b'_ignoreYOutliers",{defaultValue:!1',
    },
}

CHARTS = {  # of each column of the history
    "train_accuracy": "accuracy/train",
    "validation_accuracy": "accuracy/validation",
    "train_loss": "loss/train",
    "validation_loss": "loss/validation",
    "lr": "training/learning rate",
}

Charts = dict[str, list[provider.ScalarDatum]]


def main() -> None:
    """Serve until Ctrl-C. Raises UserError: the port cannot be used."""
    parser = argparse.ArgumentParser(description="Watch runs in TensorBoard.")
    parser.add_argument("--port", type=int, default=6006, help="0 picks a free one; default: 6006")
    port = parser.parse_args().port
    runs = Runs()
    try:
        server = build_server(port, runs)
    except (program.TensorBoardServerException, OverflowError) as error:
        in_use = isinstance(error, program.TensorBoardPortInUseError)
        problem = "in use by another program" if in_use else getattr(error, "msg", str(error))
        raise UserError(f"port {port}: {problem}; choose another: make board PORT=6007") from None
    runs.update()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"TensorBoard at {server.get_url()} (Ctrl-C stops it)")
    while True:
        time.sleep(INTERVAL)
        runs.update()


def build_server(port: int, runs: provider.DataProvider) -> program.WerkzeugServer:
    """Build TensorBoard's server. Raises TensorBoardServerException or OverflowError: the port."""
    plugins = [CorePluginLoader(), MetricsPlugin, ScalarsPlugin, HParamsPlugin]
    board = program.TensorBoard(plugins, page)
    board.configure(host=HOST, port=port, logdir=str(ROOT))  # required; `runs` is read instead
    app = TensorBoardWSGIApp(board.flags, board.plugin_loaders, runs, board.assets_zip_provider)
    return program.WerkzeugServer(app, board.flags)


def page() -> BytesIO:
    """TensorBoard's page with our changes, as a zip file."""
    changed = BytesIO()
    with (
        zipfile.ZipFile(get_default_assets_zip_provider()()) as original,
        zipfile.ZipFile(changed, "w") as copy,
    ):
        for name in original.namelist():
            content = original.read(name)
            for old, new in PAGE.get(name, {}).items():
                content = content.replace(old, new)
            copy.writestr(name, content)
    return changed


class Runs(provider.DataProvider):  # type: ignore[misc]
    """All runs, as TensorBoard asks for them."""

    def __init__(self) -> None:
        self.runs: dict[str, Run] = {}
        self.charts: dict[str, Charts] = {}

    def update(self) -> None:
        """Look at the files again."""
        self.runs = find_runs(self.runs)
        self.charts = {name: build_charts(found) for name, found in self.runs.items()}

    def list_plugins(self, ctx: object = None, **query: Any) -> list[str]:
        """The plugins that have something to show."""
        return [ScalarsPlugin.plugin_name, HParamsPlugin.plugin_name]

    def list_runs(self, ctx: object = None, **query: Any) -> list[provider.Run]:
        """The names of the runs."""
        return [provider.Run(name, name, start_time=None) for name in self.charts]

    def read_scalars(
        self, ctx: object = None, *, run_tag_filter: Any = None, **query: Any
    ) -> dict[str, Charts]:
        """The points in the charts of each run."""
        if query["plugin_name"] != ScalarsPlugin.plugin_name:
            return {}
        wanted = run_tag_filter or provider.RunTagFilter()
        return {
            name: {
                tag: points
                for tag, points in charts.items()
                if wanted.tags is None or tag in wanted.tags
            }
            for name, charts in self.charts.items()
            if wanted.runs is None or name in wanted.runs
        }

    def read_last_scalars(
        self, ctx: object = None, **query: Any
    ) -> dict[str, dict[str, provider.ScalarDatum]]:
        """The last point in the charts of each run."""
        return {
            name: {tag: points[-1] for tag, points in charts.items()}
            for name, charts in self.read_scalars(**query).items()
        }

    def list_scalars(
        self, ctx: object = None, **query: Any
    ) -> dict[str, dict[str, provider.ScalarTimeSeries]]:
        """The charts of each run."""
        return {
            name: {
                tag: describe(provider.ScalarTimeSeries, last.step) for tag, last in charts.items()
            }
            for name, charts in self.read_last_scalars(**query).items()
        }

    def list_tensors(
        self, ctx: object = None, **query: Any
    ) -> dict[str, dict[str, provider.TensorTimeSeries]]:
        """The params of each run: those that differ between runs, or all if none does."""
        if query["plugin_name"] != HParamsPlugin.plugin_name:
            return {}
        series = {}
        for name, params in differing_params(self.runs).items():
            summary = hparams_pb(params, trial_id=name, start_time_secs=0)
            content = summary.value[0].metadata.plugin_data.content
            series[name] = {SESSION_START_INFO_TAG: describe(provider.TensorTimeSeries, 0, content)}
        return series


def build_charts(found: Run) -> Charts:
    """Charts of a run's history by epoch, and of its test metrics as a point at the last one."""
    rows = list(csv.DictReader(found.history.decode().splitlines()))
    charts = {
        tag: [
            provider.ScalarDatum(int(row["epoch"]), found.changed, float(row[name]))
            for row in rows
            if row.get(name)  # empty without a validation split
        ]
        for name, tag in CHARTS.items()
    }
    for name, value in found.metrics.items():
        point = provider.ScalarDatum(int(rows[-1]["epoch"]), found.changed, float(value))
        charts[f"test/{name}"] = [point]
    return {tag: points for tag, points in charts.items() if points}


def describe(kind: type, step: int, content: bytes = b"") -> Any:
    """What TensorBoard wants to know of a series of values; `step` is the last one."""
    return kind(
        max_step=step, max_wall_time=0.0, plugin_content=content, description="", display_name=""
    )


def differing_params(runs: Mapping[str, Run]) -> dict[str, Params]:
    """The params of each run that differ between those that have them, or all if none does."""
    values = defaultdict(set)
    for found in runs.values():
        for name, value in found.params.items():
            values[name].add(value)
    differing = {name for name in values if len(values[name]) > 1} or values.keys()
    return {
        run_name: {name: found.params[name] for name in found.params.keys() & differing}
        for run_name, found in runs.items()
    }


if __name__ == "__main__":
    run(main)
