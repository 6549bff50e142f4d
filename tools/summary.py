"""Print Markdown for a pull request: what differs between a commit and the workspace.

Metrics and params are tables; the learning curves are a Mermaid chart, which GitHub draws.
"""

import argparse
import io
import subprocess
import sys

from _tool import ROOT

import pandas as pd

from mnist_pipeline.common.errors import UserError, run

CHART = """
```mermaid
---
config:
  themeVariables:
    xyChart:
      plotColorPalette: "#e8590c, #1c7ed6"
---
xychart-beta
  title "{title}: {base} orange, now blue"
  x-axis "epoch" [{epochs}]
  y-axis "{title}"
  line [{old}]
  line [{new}]
```"""


def main() -> None:
    """Print the tables and curves of what changed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("base", nargs="?", default="HEAD", help="commit to compare with")
    base = parser.parse_args().base
    print(f"## Results compared with {base}")
    for kind in ("metrics", "params"):
        table = output(sys.executable, "-m", "dvc", kind, "diff", "--md", base).strip()
        has_rows = table.count("\n") > 1  # below the two lines of the header
        print(f"\n### {kind.capitalize()}\n\n{table if has_rows else 'No difference.'}")
    old = pd.read_csv(io.StringIO(output("git", "show", f"{base}:./metrics/history.csv")))
    new = pd.read_csv(ROOT / "metrics/history.csv")
    print("\n### Learning curves")
    changed = [
        name
        for name in ("validation_loss", "validation_accuracy")
        if not old[name].equals(new[name]) and not (old[name].hasnans or new[name].hasnans)
    ]
    for name in changed:
        print(
            CHART.format(
                title=name.replace("_", " "),
                base=base,
                epochs=", ".join(map(str, range(1, max(len(old), len(new)) + 1))),
                old=", ".join(map(str, old[name])),
                new=", ".join(map(str, new[name])),
            )
        )
    if not changed:
        print("\nNo difference.")


def output(*command: str) -> str:
    """Output of a command in the project. Raises UserError: it failed."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8")
    if done.returncode:
        raise UserError(done.stderr.strip().removeprefix("ERROR: "))
    return done.stdout


if __name__ == "__main__":
    run(main)
