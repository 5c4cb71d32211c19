"""What people look at, in a real browser: reports and site from files, step notebooks in JupyterLab."""

import contextlib
import itertools
import json
import os
import re
import subprocess
import sys
from urllib.parse import unquote

import pytest
from waiting import find_port, is_listening, wait_until

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def site(shared_workbench):
    """Return the folder of a site with two releases of iris and one of houses."""
    for words in (["iris"], ["iris", "-p", "train.C=0.5"], ["houses"]):
        shared_workbench.call_json("release", *words)
    shared_workbench.call_json("site")
    return shared_workbench.folder / ".cd4ml/site"


def open_page(browser, path, width=1600, scheme="light"):
    """Open a file, collecting what it asks for beyond itself and what it complains about."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.asked, page.complaints = [], []
    page.on("request", lambda request: page.asked.append(request.url))
    page.on("console", lambda message: page.complaints.append(message.text))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.goto(path.as_uri())
    return page


RELEASES = ("iris/1/index.html", "iris/2/index.html", "houses/1/index.html")
PAGES = ("index.html", *RELEASES, "iris/index.html", "iris/2/from-1.html", "data/index.html",
         "iris/1/reports/evaluate.html", "iris/1/reports/prepare.html", "iris/1/reports/train.html",
         "houses/1/reports/evaluate.html")


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
    assert {path.name for path in seen} >= {"index.html", "evaluate.html", "train.ipynb", "from-1.html", "model.skops"}
    pages = {path for path in site.rglob("*") if path.is_file() and path.name not in (".site.json", "release.json")}
    assert {path.relative_to(site) for path in pages} == {path.resolve().relative_to(site) for path in seen} - {
        path.relative_to(site) for path in site.rglob("release.json")}, "what nobody can reach is not there"


@pytest.mark.parametrize("name", RELEASES)
def test_the_page_of_a_release_has_one_outline_and_every_picture_a_description(browser, site, name):
    page = open_page(browser, site / name)
    levels = page.eval_on_selector_all("h1, h2, h3, h4, h5, h6", "nodes => nodes.map(node => +node.tagName[1])")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    ids = page.eval_on_selector_all("[id]", "nodes => nodes.map(node => node.id)")
    assert len(ids) == len(set(ids))
    silent = """nodes => nodes.filter(node => !(node.getAttribute('alt') || node.getAttribute('aria-label')))
                .map(node => node.outerHTML.slice(0, 99))"""
    assert page.eval_on_selector_all("img, svg", silent) == []
    targets = page.eval_on_selector_all("a[href^='#']", "nodes => nodes.map(node => node.hash.slice(1))")
    assert {unquote(target) for target in targets} <= set(ids)
    assert page.evaluate("document.documentElement.lang") == "en"
    assert [page.locator(tag).count() for tag in ("header", "main", "h1")] == [1, 1, 1]
    scripts = page.eval_on_selector_all("script", "nodes => nodes.map(node => [node.type, node.textContent])")
    assert [kind for kind, _ in scripts] == ["application/json"]
    assert json.loads(scripts[0][1]) == json.loads((site / name).with_name("release.json").read_text())
    page.close()


def test_the_page_of_a_release_leads_with_the_decision_and_what_changed(browser, site):
    page = open_page(browser, site / "iris/2/index.html")
    assert page.locator(".decision").first.bounding_box()["y"] < 400
    assert "✓ pass" in page.locator("#decision").inner_text()
    rows = page.locator("#changes tbody tr").all_inner_texts()
    assert "train.C\t1.0\t0.5" in rows
    assert "1 parameter" in page.locator("#changes p").first.inner_text()
    steps = page.eval_on_selector_all("section.chapter", "nodes => nodes.map(node => node.id)")
    assert steps == ["step-prepare", "step-train", "step-evaluate"]
    assert page.locator("section.chapter h2").count() == 3
    assert not page.locator("details.code[open]").count(), "code is folded"
    page.locator("details.code summary").first.click()
    assert page.locator("details.code pre").first.is_visible()
    page.close()


def test_the_keyboard_skips_to_the_decision_and_shows_where_it_is(browser, site):
    page = open_page(browser, site / "iris/2/index.html")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.locator(".skip").bounding_box()["x"] >= 0
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    page.keyboard.press("Tab")
    assert page.evaluate("document.querySelector('main').contains(document.activeElement)")
    page.close()


@pytest.mark.parametrize("width", [400, 1600])
@pytest.mark.parametrize("name", [*RELEASES, "index.html", "iris/index.html", "iris/2/from-1.html", "data/index.html"])
def test_a_page_suits_light_and_dark(browser, site, name, width):
    """What is written stands out from what it is written on, by the ratio of 4.5 that WCAG 2 asks for."""
    for scheme in ("light", "dark"):
        page = open_page(browser, site / name, width, scheme)
        page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true })")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(CONTRAST) == [], scheme
        page.close()


# The texts whose contrast is less than 4.5, as WCAG 2 computes it; drawings have a ground of their own.
CONTRAST = """() => {
  const read = text => text.match(/[\\d.]+/g).map(Number)
  const light = rgb => rgb.slice(0, 3).map(x => x / 255)
    .map(x => x <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4)
    .reduce((sum, x, i) => sum + x * [0.2126, 0.7152, 0.0722][i], 0)
  const ground = node => {
    for (; node; node = node.parentElement) {
      const rgb = read(getComputedStyle(node).backgroundColor)
      if (rgb.length == 3 || rgb[3] > 0.99) return rgb
    }
    return [255, 255, 255]
  }
  const weak = []
  for (const node of document.querySelectorAll('body *:not(script, style, svg, svg *)')) {
    const words = [...node.childNodes].filter(one => one.nodeType == 3).map(one => one.data.trim()).join('')
    if (!words || !node.checkVisibility()) continue
    const [a, b] = [read(getComputedStyle(node).color), ground(node)].map(light).sort((a, b) => b - a)
    if ((a + 0.05) / (b + 0.05) < 4.5) weak.push([words.slice(0, 40), getComputedStyle(node).color])
  }
  return weak
}"""


def test_the_page_of_a_release_prints_whole(browser, site):
    page = open_page(browser, site / "iris/2/index.html", 700, "dark")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("details.code >> visible=true").count()
    cut = """nodes => nodes.filter(node => node.checkVisibility() && node.scrollWidth > node.clientWidth + 1)
             .map(node => node.tagName + ' ' + node.className)"""
    assert page.eval_on_selector_all("main table, main pre, main .outputs, main figure, main section", cut) == []
    assert page.pdf(format="A4").startswith(b"%PDF")
    page.close()


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


@pytest.mark.parametrize("name", ["index.html", "iris/index.html"])
def test_search_is_done_by_keyboard(browser, site, name):
    page = open_page(browser, site / name)
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.type") == "search"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    page.keyboard.type("TRAIN.C=0.5 pass")
    assert page.locator("search [role=status]").inner_text() == "1 found"
    assert page.locator("search li a").all_inner_texts() == ["iris release 2"]
    page.keyboard.press("Escape")
    assert page.locator("search li").count() == 0
    assert page.evaluate("document.activeElement.tagName") == "BODY"
    page.keyboard.press("/")
    page.keyboard.type("iris release 2")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.textContent") == "iris release 2"
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_url((site / "iris/2/index.html").as_uri())
    assert not page.complaints
    page.close()


def test_what_is_searched_is_text(browser, site):
    page = open_page(browser, site / "index.html")
    page.fill("search input", "<img src=x onerror=alert(1)>")
    assert page.locator("search [role=status]").inner_text() == "0 found"
    page.fill("search input", "")
    assert page.locator("search [role=status]").inner_text() == ""
    assert not page.complaints
    page.close()


def test_a_page_works_without_scripts(browser, site):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((site / "index.html").as_uri())
    assert not page.locator("search").is_visible()
    page.click("#iris h2 a")
    page.click(".releases a >> nth=0")
    assert page.locator("h1").inner_text() == "Three species of iris: release 2"
    context.close()


def test_the_link_to_search_leads_into_the_box(browser, site):
    page = open_page(browser, site / "iris/2/index.html")
    page.click("text=Search")
    page.wait_for_function("document.activeElement.type == 'search'")
    page.close()


@pytest.mark.parametrize(("width", "beside"), [(400, False), (1600, True)])
def test_figures_of_two_releases_stand_side_by_side_where_there_is_room(browser, site, width, beside):
    page = open_page(browser, site / "iris/2/from-1.html", width)
    pairs = page.locator(".pair")
    assert pairs.count() >= 4
    first, second = (pairs.nth(1).locator("> div").nth(i).bounding_box() for i in (0, 1))
    assert (first["y"] == second["y"]) == beside
    assert (first["x"] < second["x"]) == beside
    titles = page.locator(".figures h3").all_inner_texts()
    assert "How good is it?" in titles
    assert len(titles) == len(set(titles))
    page.close()


def test_the_timeline_is_told_in_words_and_marks_every_release(browser, site):
    page = open_page(browser, site / "iris/index.html", 400)
    figure = page.locator("figure").first
    assert "How did accuracy go over the releases?" in figure.locator("svg").get_attribute("aria-label")
    assert "2 releases: 1 served, 1 passed and never served" in figure.locator("figcaption").inner_text()
    assert figure.locator("svg").bounding_box()["width"] <= 372, "the newest release is seen without moving it"
    page.close()


@contextlib.contextmanager
def run_lab(workbench):
    """Run JupyterLab on the workbench as `cd4ml lab` does, and give its address."""
    port = find_port()
    words = ["lab", "--no-browser", f"--port={port}", "--IdentityProvider.token=", "--allow-root"]
    environ = {**workbench.environ, "JUPYTER_CONFIG_DIR": str(workbench.folder / ".jupyter")}
    command = [os.path.join(os.path.dirname(sys.executable), "cd4ml"), *words]
    process = subprocess.Popen(command, cwd=workbench.folder, env=environ, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: is_listening(port), "JupyterLab")
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
        page.wait_for_function("document.body.innerText.includes(\"['model', 'portable'\")", timeout=120_000)
        assert "Traceback" not in page.inner_text("body")
        page.keyboard.press("Control+s")
        page.close()
    recorded = json.loads((workbench.folder / ".cd4ml/interactive/iris/train/results.json").read_text())
    assert {one["name"] for one in recorded["results"]} == {"model", "portable", "portable_check"}
    assert not (workbench.folder / "releases").exists()
