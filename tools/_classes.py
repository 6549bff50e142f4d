"""What to show of more classes than a page or a terminal has room for."""

from typing import Any

import pandas as pd

MOST_CLASSES = 30
"""Classes of a confusion matrix: with 200, DVC's plot is an SVG of 25 MB."""

WORST = 20
"""Classes, or pairs of them, that are shown of more."""

Plots = dict[str, list[dict[str, Any]]]
"""Renderings of each plot, by its name, as in the JSON of `dvc plots diff`."""


def shorten(plots: Plots) -> pd.DataFrame | None:
    """Shorten, in place, the plots of more than MOST_CLASSES classes.

    The bars that remain are those of the classes with the lowest F1 in the workspace. Confusion
    matrices are removed. Return their largest entries off the diagonal, one row per actual and
    predicted class with the counts of each revision, or None if there were none to remove.
    """
    mistakes = None
    for name, renderings in list(plots.items()):
        for plot in renderings:
            rows = pd.DataFrame(plot["content"]["data"]["values"] if plot["type"] == "vega" else [])
            if {"actual", "predicted"} <= {*rows} and rows["actual"].nunique() > MOST_CLASSES:
                plots.pop(name, None)
                mistakes = _most_frequent_mistakes(rows)
            elif {"class", "f1"} <= {*rows} and rows["class"].nunique() > MOST_CLASSES:
                _keep_lowest_f1(plot["content"], rows)
    return mistakes


def _most_frequent_mistakes(rows: pd.DataFrame) -> pd.DataFrame:
    wrong = rows[rows["actual"] != rows["predicted"]]
    counts = wrong.value_counts(["actual", "predicted", "rev"], sort=False).unstack(fill_value=0)
    counts = counts.reindex(columns=rows["rev"].unique(), fill_value=0)
    return counts.sort_values([*counts], ascending=False, kind="stable").head(WORST)


def _keep_lowest_f1(spec: dict[str, Any], rows: pd.DataFrame) -> None:
    first = rows[rows["rev"] == rows["rev"][0]]  # the workspace, unless it has none
    f1 = pd.to_numeric(first["f1"]).set_axis(first["class"])
    lowest = f1.sort_values(kind="stable").index[:WORST]
    spec["data"]["values"] = rows[rows["class"].isin(lowest)].to_dict("records")
    spec["title"]["text"] += f": the lowest {len(lowest)} of {len(f1)}"
