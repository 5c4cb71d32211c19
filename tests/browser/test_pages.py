"""What people look at, in a real browser: reports and site from files, step notebooks in JupyterLab."""

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def browser(chromium):
    from playwright.sync_api import sync_playwright

    options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=str(chromium), args=options)
        yield started
        started.close()


@pytest.fixture(scope="module")
def site(shared_workbench):
    """Return the folder of a site with one release of iris and one of houses."""
    for problem in ("iris", "houses"):
        shared_workbench.call_json("release", problem)
    shared_workbench.call_json("site")
    return shared_workbench.folder / ".cd4ml/site"


def open_page(browser, path, width=1600):
    """Open a file, collecting what it asks for beyond itself and what it complains about."""
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.asked, page.complaints = [], []
    page.on("request", lambda request: page.asked.append(request.url))
    page.on("console", lambda message: page.complaints.append(message.text))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.goto(path.as_uri())
    return page


PAGES = ("index.html", "iris/1/index.html", "iris/1/reports/evaluate.html", "iris/1/reports/prepare.html",
         "iris/1/reports/train.html", "houses/1/reports/evaluate.html")


@pytest.mark.parametrize("width", [400, 1600])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_stands_alone_and_fits_its_window(browser, site, name, width):
    page = open_page(browser, site / name, width)
    beyond = [url for url in page.asked[1:] if not url.startswith("data:")]
    assert not beyond, "the page asks for something beyond itself"
    assert not page.complaints
    assert page.evaluate("document.documentElement.scrollWidth") <= width, "the page is wider than its window"
    assert (site / name).stat().st_size < 2_000_000
    page.close()


def test_all_links_of_the_site_lead_somewhere(browser, site):
    waiting, seen = [site / "index.html"], set()
    while waiting:
        path = waiting.pop()
        seen.add(path)
        if path.suffix != ".html":
            continue
        page = open_page(browser, path)
        for link in page.eval_on_selector_all("a[href]", "nodes => nodes.map(node => node.href)"):
            target = type(path)(re.sub(r"#.*", "", link.removeprefix("file://")))
            assert target.is_file(), f"{path.name} links to {link}"
            if target not in seen:
                waiting.append(target)
        page.close()
    assert {path.name for path in seen} >= {"index.html", "evaluate.html", "train.ipynb"}


def test_a_report_leads_with_the_decision_and_every_figure_speaks(browser, site):
    page = open_page(browser, site / "iris/1/reports/evaluate.html")
    headings = page.locator("h2").all_inner_texts()
    assert headings[0] == "May it serve?"
    assert "pass" in page.locator("main").inner_text().split("How good is it?")[0]
    figures = page.locator("figure")
    assert figures.count() >= 4
    for i in range(figures.count()):
        figure = figures.nth(i)
        assert len(figure.locator("figcaption").inner_text()) > 20
        assert figure.locator("[aria-label], img[alt]").count() >= 1
        box = figure.locator("svg, img").first.bounding_box()
        assert box["width"] > 200
        assert box["height"] > 40
    page.close()


@contextlib.contextmanager
def run_lab(workbench):
    """Run JupyterLab on the workbench as `cd4ml lab` does, and give its address."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    words = ["lab", "--no-browser", f"--port={port}", "--IdentityProvider.token=", "--allow-root"]
    environ = {**workbench.environ, "JUPYTER_CONFIG_DIR": str(workbench.folder / ".jupyter")}
    command = [os.path.join(os.path.dirname(sys.executable), "cd4ml"), *words]
    process = subprocess.Popen(command, cwd=workbench.folder, env=environ, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api", timeout=5).close()
                break
            except OSError:
                assert time.monotonic() < end, "JupyterLab did not start"
                time.sleep(0.3)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=30)


def test_a_step_notebook_runs_as_it_stands_in_jupyterlab(browser, workbench):
    def choose_iris(notebook):  # its default, flights, takes longer than a test should
        cell = notebook["cells"][1]
        cell["source"] = "".join(cell["source"]).replace('"flights"', '"iris"').splitlines(keepends=True)

    workbench.edit_notebook("train", choose_iris)
    with run_lab(workbench) as address:
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.goto(f"{address}/lab/tree/nbs/steps/train.ipynb")
        page.wait_for_selector("#jp-main-statusbar >> text=| Idle", timeout=90_000)
        page.click("text=Run >> nth=0")
        page.click("text=Run All Cells")
        page.wait_for_function("document.body.innerText.includes(\"['model']\")", timeout=120_000)
        assert "Traceback" not in page.inner_text("body")
        page.keyboard.press("Control+s")
        page.close()
    recorded = json.loads((workbench.folder / ".cd4ml/interactive/iris/train/results.json").read_text())
    assert [one["name"] for one in recorded["results"]] == ["model"]
    assert not (workbench.folder / "releases").exists()
