"""Write reports/index.html: what DVC knows of the workspace, compared with a commit, on one page.

The page needs neither a network nor scripts. DVC's Vega-Lite plots become inline SVG, which takes
its colors from the page, light or dark.
"""

import argparse
import base64
import json
import mimetypes
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from io import BytesIO
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any, NamedTuple

from _tool import ROOT

import pandas as pd
from _classes import shorten
from _significance import wilson_interval
from PIL import Image

from mnist_pipeline.common.errors import run_script
from mnist_pipeline.common.files import atomic

TEMPLATE = Path(__file__).with_name("report.html.jinja")
METRICS, REPORT = ROOT / "metrics", ROOT / "reports/index.html"

LARGE = 500_000
"""Bytes of a PNG above which it becomes a WebP, for photos of about a fifth of the size."""

INK, LINES = "currentColor", "#8884"
VEGA_CONFIG = {
    "background": None,
    "axis": {"domainColor": LINES, "gridColor": LINES, "tickColor": LINES},
    "legend": {"orient": "bottom"},
    "style": {"guide-label": {"fill": INK}, "guide-title": {"fill": INK}},
    "title": {"color": INK},
    "view": {"stroke": LINES},
}


class Answer(NamedTuple):
    """Output of a `dvc` command, and its error message if it failed."""

    output: str
    error: str

    def parse(self) -> Any:
        """Parse the output as JSON; return None if the command failed."""
        return None if self.error else json.loads(self.output)


def main() -> None:
    """Render the page, write it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--timeout", type=float, default=120, help="seconds to wait for DVC")
    parser.add_argument("--base", default="HEAD", help="commit to compare with (default: HEAD)")
    arguments = parser.parse_args()
    page, errors = render(arguments.base, arguments.timeout)
    with atomic(REPORT) as temporary:
        temporary.write_text(page, "utf-8")
    for error in errors:
        print(f"warning: {error.splitlines()[0]}", file=sys.stderr)
    print(f"{REPORT.relative_to(ROOT)}: open it in a browser")


def render(base: str, timeout: float) -> tuple[str, list[str]]:
    """The page, and the errors of the `dvc` commands that failed."""
    import jinja2  # --help needs no package of this tool

    with tempfile.TemporaryDirectory() as folder:
        commands = [
            ("plots diff", base, "--json", "--out", folder),
            ("exp show", "--json", "--num", "3"),
            ("metrics diff", base, "--json", "--all"),
            ("params diff", base, "--json", "--all", "--deps"),
            ("status", "--json"),
            ("stage list",),
        ]
        with ThreadPool() as pool:  # most of the time is DVC starting up
            answers = pool.starmap(partial(ask_dvc, timeout), commands)
        errors = [answer.error for answer in answers if answer.error]
        plots, experiments, metrics, params, status, stages = answers
        drawn = plots.parse() or {}
        template = jinja2.Template(TEMPLATE.read_text("utf-8"), autoescape=True, trim_blocks=True)
        page = template.render(  # reads the pictures in `folder`
            now=datetime.now().astimezone(),
            base=base,
            errors=errors,
            metrics=metrics.parse(),
            interval=accuracy_interval(),
            params=params.parse(),
            stages=[line.split(maxsplit=1) for line in stages.output.splitlines()],
            status=status.parse(),
            mistakes=shorten(drawn.get("data") or {}),
            plots=drawn,
            experiments=experiment_rows(experiments.parse() or []),
            svg=svg,
            unique_pictures=unique_pictures,
        )
    return page, errors


def ask_dvc(timeout: float, command: str, *options: str) -> Answer:
    """Run a `dvc` command in the project, for at most `timeout` seconds."""
    line = [sys.executable, "-m", "dvc", *command.split(), *options]
    try:
        done = subprocess.run(
            line, cwd=ROOT, capture_output=True, encoding="utf-8", errors="replace", timeout=timeout
        )
    except subprocess.TimeoutExpired:
        hint = "; 'git fetch --refetch --no-filter' completes this partial clone" * is_partial()
        return Answer("", error=f"dvc {command}: no answer in {timeout:g} seconds{hint}")
    if done.returncode == 0:
        return Answer(done.stdout, error="")
    message = done.stderr.strip() or f"exit status {done.returncode}"
    return Answer("", error=f"dvc {command}: {message}")


def is_partial() -> bool:
    """Whether this is a clone made with --filter. DVC waits forever for a file that it lacks."""
    command = ["git", "config", "--get-regexp", r"^remote\..*\.promisor$"]
    return subprocess.run(command, cwd=ROOT, capture_output=True).returncode == 0


def accuracy_interval() -> tuple[float, float] | None:
    """95% interval of the workspace's test accuracy, None if its metrics cannot be read."""
    try:
        errors = json.loads((METRICS / "test.json").read_text("utf-8"))["errors"]
        num_images = int(pd.read_csv(METRICS / "classes.csv")["support"].sum())
        return wilson_interval(num_images - errors, num_images)
    except (OSError, ValueError, KeyError):  # missing, or edited by hand
        return None


def svg(spec: Mapping[str, Any]) -> str:
    """Convert a Vega-Lite plot to SVG; ids in it are unique within the process."""
    import vl_convert

    return vl_convert.vegalite_to_svg(dict(spec), vl_version="5.21", config=VEGA_CONFIG)


def unique_pictures(renderings: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Map each distinct version of a picture, as a data URL, to the revisions that have it."""
    revisions: dict[str, list[str]] = {}
    for rendering in renderings:
        path = Path(rendering["url"])
        content, kind = path.read_bytes(), mimetypes.guess_type(path)[0]
        if kind == "image/png" and len(content) > LARGE:  # of photos
            smaller = BytesIO()
            Image.open(path).save(smaller, "webp", quality=90)
            content, kind = smaller.getvalue(), "image/webp"
        url = f"data:{kind};base64,{base64.b64encode(content).decode()}"
        revisions.setdefault(url, []).extend(rendering["revisions"])
    return revisions


def experiment_rows(commits: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """List each recent commit that has experiments, followed by these, newest first."""
    rows = []
    for commit in commits[1:]:  # the first entry is the workspace
        experiments = [experiment["revs"][0] for experiment in commit["experiments"] or []]
        if experiments:
            rows += [experiment_row(row, commit) for row in [commit, *experiments]]
    return rows


def experiment_row(experiment: Mapping[str, Any], commit: Mapping[str, Any]) -> dict[str, Any]:
    """Summarize an experiment: the params that differ from its commit's, and its test metrics."""
    before, after = flat_params(commit), flat_params(experiment)
    data = experiment["data"] or {}  # None if DVC cannot read the experiment
    return {
        "name": experiment["name"],
        "rev": experiment["rev"][:7],
        "is_commit": experiment is commit,
        "created": data.get("timestamp"),
        "changes": {name: value for name, value in after.items() if value != before.get(name)},
        "metrics": data.get("metrics", {}).get("metrics/test.json", {}).get("data", {}),
    }


def flat_params(experiment: Mapping[str, Any]) -> dict[Any, Any]:
    """Return the params of an experiment by their dotted names."""
    files = (experiment["data"] or {}).get("params", {})
    params = files.get("params.yaml", {}).get("data", {})
    return pd.json_normalize(params).to_dict("records")[0]


if __name__ == "__main__":
    run_script(main)
