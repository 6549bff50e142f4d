"""`make report`: one page, opened in a real Chromium."""

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from .project import Project

QUIET = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    " --disable-component-update --disable-sync"
)
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
def chromium() -> Iterator[Browser]:
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("needs a chromium on the PATH")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=QUIET.split())
        yield browser
        browser.close()


def report(project: Project) -> str:
    project.run("python", "tools/report.py")
    return (project.folder / "reports/index.html").read_text("utf-8")


def test_the_report_of_an_experiment_is_drawn_in_every_view(
    project: Project, chromium: Browser
) -> None:
    project.dvc("exp", "run", "-S", "optimizer=rmsprop", "--name", "other")
    report(project)
    address = (project.folder / "reports/index.html").as_uri()
    seen, backgrounds = [], set()
    for view in VIEWS.values():
        context = chromium.new_context(offline=True, **view)  # type: ignore[arg-type]
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
        assert len(pictures) == 5, pictures  # of two commits; the samples are the same
        assert all(drawn for _, drawn in pictures), pictures
        assert page.evaluate(FITS)
        assert "rmsprop" in page.inner_text("#params .changed >> nth=0")
        assert "accuracy" in page.inner_text("#metrics .changed >> nth=0")
        assert "optimizer=rmsprop" in page.inner_text("#experiments")
        assert page.locator(".graph g").count() == 4
        assert page.locator(".graph .stale, .problem").count() == 0
        backgrounds.add(page.evaluate(BACKGROUND))
        if view["color_scheme"] == "dark":
            page.emulate_media(media="print")
            backgrounds.add(page.evaluate(BACKGROUND))  # paper is white
        context.close()
    assert len(backgrounds) == 2


def test_a_fresh_clone_has_a_report_that_says_what_is_missing(clone: Project) -> None:
    page = report(clone)
    assert page.count('<figure class="plot') == 8
    for name in ("mistakes", "samples", "first_layer"):
        assert f"<code>pictures/{name}.png</code> isn't here: <code>make repro</code>" in page
    assert "None yet" in page
    for folder in ("metrics", ".git"):
        shutil.rmtree(clone.folder / folder)
    page = report(clone)
    assert "dvc exp show: ERROR" in page
    assert "No plots yet" in page
