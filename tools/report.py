"""Write reports/index.html: all that DVC knows of the workspace, on one page that needs no network.

DVC is asked as a person would ask it. Its Vega-Lite plots become SVG here, so the page has no
script; it is drawn in the reader's colours, light or dark.
"""

import base64
import json
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import vl_convert

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from mnist_pipeline.files import atomic

REPORT = ROOT / "reports/index.html"
TEST = "metrics/test.json"  # whose metrics the table of experiments shows
MOST_EXPERIMENTS = 20

INK, LINES = "currentColor", "#8884"
VEGA_CONFIG = {
    "background": None,
    "axis": {
        "labelColor": INK, "titleColor": INK,
        "domainColor": LINES, "gridColor": LINES, "tickColor": LINES,
    },
    "header": {"labelColor": INK, "titleColor": INK},
    "legend": {"labelColor": INK, "titleColor": INK, "orient": "bottom"},
    "title": {"color": INK},
    "view": {"stroke": LINES},
}  # fmt: skip

# One process for all questions, because starting DVC takes longer than most of its answers.
ASK = """
import shlex, sys
from dvc.cli import main
for command in sys.argv[1:]:
    status = main(shlex.split(command))
    print(end=f"\\0{status}\\0", flush=True)
    print(end="\\0", file=sys.stderr, flush=True)
"""


class Answer(NamedTuple):
    """What a command of DVC printed; its last words instead, where it failed."""

    text: str
    problem: str

    def json(self) -> Any:
        """The JSON printed, or None."""
        return json.loads(self.text) if self.text.strip() and not self.problem else None


def ask_dvc(*commands: str) -> list[Answer]:
    """Run commands of DVC in the project."""
    done = subprocess.run(
        [sys.executable, "-c", ASK, *commands], cwd=ROOT, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(done.stderr)
    parts = done.stdout.split("\0")
    answers = []
    for command, text, status, words in zip(
        commands, parts[0:-1:2], parts[1::2], done.stderr.split("\0"), strict=False
    ):
        last = (words.strip().splitlines() or [f"exit code {status}"])[-1]
        problem = f"dvc {command.split(' --')[0]}: {last}" if status != "0" else ""
        answers.append(Answer(text, problem))
    return answers


def main() -> None:
    """Ask DVC, fill the template, write the page."""
    with tempfile.TemporaryDirectory() as folder:
        answers = ask_dvc(
            "metrics diff --all --json",
            "params diff --all --deps --json",
            "exp show --json --num 3",
            "dag --dot",
            "status --json",
            f"plots diff --json --out {shlex.quote(folder)}",
        )
        metrics, params, experiments, dag, status, plots = answers
        figures = draw(plots.json() or {})
    metric_rows, param_rows = changes(metrics.json()), changes(params.json())
    commits = experiments.json() or []
    template = Path(__file__).with_name("report.html.jinja").read_text("utf-8")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    page = environment.from_string(template).render(
        now=datetime.now().astimezone().strftime("%-d %B %Y, %H:%M %Z"),
        commit=next((commit["rev"][:7] for commit in commits[1:]), None),
        changed=any(row["old"] != row["new"] for row in metric_rows),
        metrics=metric_rows,
        params=param_rows,
        figures=figures,
        experiments=experiment_rows(commits),
        graph=graph(dag.text, set(status.json() or {})),
        problems=[answer.problem for answer in answers if answer.problem],
    )
    with atomic(REPORT) as temporary:
        temporary.write_text(page, "utf-8")
    print(f"{REPORT.relative_to(ROOT)}: open it in a browser")


def changes(diff: Mapping[str, Mapping[str, Any]] | None) -> list[dict[str, Any]]:
    """The rows of a `dvc metrics diff` or `dvc params diff`, by file and name."""
    return [
        {"file": file, "name": name, "old": None, "new": None, "diff": None} | values
        for file, rows in sorted((diff or {}).items())
        for name, values in sorted(rows.items())
    ]


def draw(plots: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A figure for each of DVC's plots and pictures, in its order, and for what it couldn't read.

    A plot has `svg`, a picture `pictures`, from data URL to revisions; what is missing has neither.
    """
    figures: list[dict[str, Any]] = []
    for name, renderings in plots.get("data", {}).items():
        pictures: dict[str, str] = {}
        for rendering in renderings:
            if rendering["type"] == "vega":
                drawn = svg(rendering["content"], len(figures))
                broad = "facet" in rendering["content"] and len(rendering["revisions"]) > 1
                figures.append({"name": name, "svg": drawn, "broad": broad})
            else:
                content = base64.b64encode(Path(rendering["url"]).read_bytes()).decode()
                kind = Path(name).suffix.lstrip(".").lower().replace("jpg", "jpeg")
                url = f"data:image/{kind};base64,{content}"
                of = ", ".join(rendering["revisions"])
                pictures[url] = f"{pictures[url]}, {of}" if url in pictures else of
        if pictures:
            figures.append({"name": name, "pictures": pictures})
    missing = {
        str(error.get("source") or error["name"])
        for error in plots.get("errors", [])
        if error.get("rev") == "workspace"
    }
    return figures + [{"name": name} for name in sorted(missing)]


def svg(spec: Mapping[str, Any], number: int) -> str:
    """A Vega-Lite plot as SVG to stand inside the page, its ids unlike those of the others."""
    drawn = vl_convert.vegalite_to_svg(dict(spec), vl_version="5.21", config=VEGA_CONFIG)
    for before in ('id="', "url(#", 'href="#'):
        drawn = drawn.replace(before, f"{before}plot{number}-")
    return drawn


def experiment_rows(commits: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The newest experiments of the last commits: what each changed, and its test metrics."""
    rows = []
    for commit in commits[1:]:  # the first is the workspace
        before = settings(commit["data"])
        for experiment in commit["experiments"] or []:
            data = experiment["revs"][0]["data"] or {}
            after = settings(data)
            rows.append(
                {
                    "name": experiment["name"] or experiment["revs"][0]["rev"][:7],
                    "baseline": commit["rev"][:7],
                    "created": data.get("timestamp") or "",
                    "changed": [
                        f"{name}={after[name]}" for name in after if after[name] != before.get(name)
                    ],
                    "metrics": data.get("metrics", {}).get(TEST, {}).get("data", {}),
                }
            )
    return sorted(rows, key=lambda row: row["created"], reverse=True)[:MOST_EXPERIMENTS]


def settings(data: Mapping[str, Any] | None) -> dict[str, Any]:
    """The params of a commit or experiment by their dotted names."""

    def flat(block: Mapping[str, Any], prefix: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in block.items():
            if isinstance(value, dict):
                found |= flat(value, f"{prefix}{name}.")
            else:
                found[prefix + name] = value
        return found

    files = (data or {}).get("params", {}).values()
    return {name: value for file in files for name, value in flat(file["data"], "").items()}


def graph(dot: str, stale: set[str]) -> dict[str, Any]:
    """The stages of a `dvc dag --dot`, each below all it depends on, and the arrows' paths."""
    edges = re.findall(r'^"(.+)" -> "(.+)";$', dot, re.MULTILINE)
    names = re.findall(r'^"([^"]+)";$', dot, re.MULTILINE)
    depth = dict.fromkeys(names, 0)
    for _ in names:
        for above, below in edges:
            depth[below] = max(depth[below], depth[above] + 1)
    stages: dict[str, dict[str, Any]] = {}
    width, height, step = 150, 44, 80
    for name in names:
        column = sum(other["depth"] == depth[name] for other in stages.values())
        stages[name] = {
            "depth": depth[name],
            "x": 60 + column * (width + 40),
            "y": depth[name] * step,
            "stale": name in stale,
        }
    arrows = []
    for above, below in edges:
        start, end = stages[above], stages[below]
        bow = 60 * (end["depth"] - start["depth"] - 1)  # around the stages between
        if bow:
            x1, y1, x2, y2 = start["x"], start["y"] + height // 2, end["x"], end["y"] + height // 2
            arrows.append(f"M{x1} {y1} C{x1 - bow} {y1} {x2 - bow} {y2} {x2} {y2}")
        else:
            x1, x2 = start["x"] + width // 2, end["x"] + width // 2
            y1, y2 = start["y"] + height, end["y"]
            arrows.append(f"M{x1} {y1} L{x2} {y2}")
    return {
        "stages": stages,
        "arrows": arrows,
        "width": max((stage["x"] for stage in stages.values()), default=0) + width + 2,
        "height": max((stage["y"] for stage in stages.values()), default=0) + height + 2,
    }


if __name__ == "__main__":
    main()
