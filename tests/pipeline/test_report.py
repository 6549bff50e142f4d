"""`make report`: one page, opened in a real Chromium."""

import html
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from playwright.sync_api import Browser
from scipy.stats import binomtest

from mnist_pipeline.common.files import write_csv
from mnist_pipeline.evaluation.metrics import class_table, prediction_table
from mnist_pipeline.evaluation.pictures import write_png

from ..browser import chromium
from .project import Project

VIEWS = {
    "light": {"color_scheme": "light", "viewport": {"width": 1280, "height": 900}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1280, "height": 900}},
    "phone": {"color_scheme": "light", "viewport": {"width": 360, "height": 740}},
}
PLOTS_DRAWN = """figures => figures.map(figure => {
    const marks = figure.querySelectorAll("[class*=mark-] path:not([d=''])").length
    const box = figure.querySelector("svg").getBoundingClientRect()
    return [figure.dataset.name, marks > 1 && box.width > 200 && box.height > 150]
})"""
PICTURES_DRAWN = "images => images.map(image => [image.alt, image.naturalWidth === 800])"
FITS = "document.documentElement.scrollWidth <= innerWidth"
BACKGROUND = "getComputedStyle(document.body).backgroundColor"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


def report(project: Project) -> str:
    project.run("python", "tools/report.py")
    return (project.folder / "reports/index.html").read_text("utf-8")


def test_report_of_an_experiment_in_every_view(project: Project, browser: Browser) -> None:
    project.dvc("exp", "run", "-S", "optimizer=rmsprop", "--name", "other")
    low, high = interval(project)
    ids = re.findall(r' id="([^"]*)"', report(project))
    assert len(ids) == len(set(ids))  # the SVGs share the page's ids
    address = (project.folder / "reports/index.html").as_uri()
    seen, backgrounds = [], set()
    for view in VIEWS.values():
        context = browser.new_context(offline=True, **view)  # type: ignore[arg-type]
        page = context.new_page()
        page.on("console", lambda message: seen.append(message.text))
        page.on("pageerror", lambda error: seen.append(str(error)))
        page.on("request", lambda request: seen.append(request.url))
        page.goto(address)
        requests = [url for url in seen if not url.startswith("data:")]
        assert requests == [address], requests
        seen.clear()
        plots = page.eval_on_selector_all("figure.plot", PLOTS_DRAWN)
        assert len(plots) == 8
        assert all(drawn for _, drawn in plots), plots
        pictures = page.eval_on_selector_all("img", PICTURES_DRAWN)
        assert len(pictures) == 5, pictures  # of two revisions; the samples are the same
        assert all(drawn for _, drawn in pictures), pictures
        assert page.evaluate(FITS)
        assert "rmsprop" in page.inner_text("#params .changed >> nth=0")
        accuracy = page.inner_text("#metrics .changed >> nth=0").split()
        assert accuracy[0] == "accuracy"
        assert " ".join(accuracy[3:6]) == f"{low:.4g} to {high:.4g}"
        assert "main" in page.inner_text("#experiments .commit")
        assert "optimizer=rmsprop" in page.inner_text("#experiments")
        assert page.locator("#stages .state").all_inner_texts() == ["up to date"] * 4
        assert page.locator(".problem").count() == 0
        backgrounds.add(page.evaluate(BACKGROUND))
        if view["color_scheme"] == "dark":
            page.emulate_media(media="print")
            backgrounds.add(page.evaluate(BACKGROUND))  # paper is white
        context.close()
    assert len(backgrounds) == 2


def test_a_branch_is_compared_with_main(project: Project) -> None:
    project.run("git", "checkout", "--quiet", "-b", "other")
    project.set_params(optimizer="rmsprop")
    project.dvc("repro")
    project.commit("another optimizer")
    project.run("python", "tools/report.py", "--base", "main")
    page = (project.folder / "reports/index.html").read_text("utf-8")
    assert "compared with main" in page
    assert "rmsprop" in page
    assert 'class="problem"' not in page
    table = project.dvc("params", "diff", "--md", "main")  # CI's comment on a pull request
    assert re.search(
        r"^\| params.yaml +\| optimizer +\| adam +\| rmsprop +\|$", table, re.MULTILINE
    )


def interval(project: Project) -> tuple[float, float]:
    """Wilson's interval of the test accuracy, on as many images as evaluate counted."""
    errors = project.read("metrics/test.json")["errors"]
    num_images = int(pd.read_csv(project.folder / "metrics/classes.csv")["support"].sum())
    low, high = binomtest(num_images - errors, num_images).proportion_ci(method="wilson")
    return low, high


def test_a_fresh_clone_has_a_report_that_says_what_is_missing(clone: Project) -> None:
    low, high = interval(clone)
    accuracy = clone.read("metrics/test.json")["accuracy"]
    metrics = clone.folder / "metrics/test.json"
    metrics.write_text(metrics.read_text().replace(str(accuracy), str(accuracy - 1e-6)))
    page = " ".join(report(clone).split())
    assert f'<span class="interval">{low:.4g} to {high:.4g}</span>' in page
    assert page.count('<span class="interval">') == 1, "no other label: both saw the same images"
    assert "<code>make compare</code> tests that image by image" in page
    assert page.count('<figure class="plot"') == 6
    assert page.count('<td class="state">changed') == 4
    predictions = "<code>metrics/predictions.csv</code> is missing in the workspace"
    assert page.count(predictions) == 2
    assert f"Confusion matrix, normalized by actual class: {predictions}" in page
    for name in ("mistakes", "samples", "first_layer"):
        assert f"<code>metrics/pictures/{name}.png</code> is missing in the workspace" in page
    assert page.count("<code>dvc pull</code> fetches it") == 5
    assert "None yet" in page


def test_of_many_classes_the_worst_are_shown(clone: Project) -> None:
    classes = [f"class {number:03}" for number in range(200)]
    labels = np.arange(400) % 199  # the last class has no images
    predicted = np.where(labels < 50, labels + 1, labels)
    predicted[[7, 206]] = 3  # the same mistake, twice
    probabilities, metrics = np.eye(200)[predicted], clone.folder / "metrics"
    write_csv(metrics / "classes.csv", class_table(probabilities, labels, classes))
    write_csv(metrics / "predictions.csv", prediction_table(probabilities, labels, classes))
    noise = np.random.default_rng(0).integers(0, 256, (1600, 800, 3), np.uint8)
    for name in ("mistakes", "samples", "first_layer"):
        write_png(metrics / f"pictures/{name}.png", Image.fromarray(noise))  # of 4 MB
    page = report(clone)
    assert len(page) < 5e6
    assert page.count("data:image/webp") == 3
    assert page.count('<figure class="plot"') == 6
    assert "F1 of each class, on the test split: the lowest 20 of 200" in page
    rows = re.findall(r"<tr><td>(.*)<td>(.*)<td class=.number.>(.*)</tr>", page)
    assert rows[0] == ("class 000", "class 001", "3")
    assert len(rows) == 20


def test_report_of_a_partial_clone_ends(clone: Project, tmp_path: Path) -> None:
    clone.set_params(seed=1)
    clone.commit("another seed")
    clone.run("git", "config", "uploadpack.allowFilter", "true")
    project = Project(tmp_path / "partial")
    url = clone.folder.as_uri()
    clone.run("git", "clone", "--quiet", "--filter=blob:none", url, str(project.folder))
    output = project.run("python", "tools/report.py", "--timeout", "5")
    hint = "'git fetch --refetch --no-filter' completes this partial clone"
    warning = f"dvc exp show: no answer in 5 seconds; {hint}"
    assert f"warning: {warning}\n" in output
    assert warning in html.unescape((project.folder / "reports/index.html").read_text("utf-8"))
    project.run("git", "fetch", "--quiet", "--refetch", "--no-filter")
    assert "warning" not in project.run("python", "tools/report.py")


def test_report_names_each_dvc_command_that_failed(clone: Project) -> None:
    shutil.rmtree(clone.folder / ".git")
    page = report(clone)
    for command in ("plots diff", "exp show", "metrics diff", "params diff", "status"):
        assert f'<pre class="problem">dvc {command}: ERROR' in page
    assert "No plots found" in page
    assert "up to date" not in page
