"""The site of a store that is empty, that grows, and in which a report was altered."""

import itertools
import json
import re
from dataclasses import asdict, replace

import pytest

from cd4ml.base.errors import StoreError
from cd4ml.base.fingerprint import hash_bytes
from cd4ml.base.settings import load_settings
from cd4ml.base.store import Store
from cd4ml.delivery.history import Event, add_event
from cd4ml.delivery.manifest import Release
from cd4ml.delivery.provenance import Provenance
from cd4ml.delivery.site import build_site, fill_page

ORIGIN = Provenance("c0ffee", True, "10c4", "3.11.2", "<ada>", "here")


@pytest.fixture
def settings(root, tmp_path):
    return replace(load_settings(root, environ={}), release_store=str(tmp_path / "store"), site=str(tmp_path / "site"))


REPORT = """<html><main><p class="origin">iris · {0}</p><h1 id="Title">The {0}</h1><h2 id="Rows">Rows</h2>
<svg role="img" aria-label="a"><clipPath id="c"/></svg><div>left open</main></html>"""
FILES = {"reports/evaluate.html": REPORT.format("evaluate").encode(), "notebooks/evaluate.ipynb": b"{}",
         "params.json": b"{}"}


def keep_release(settings, version, status="pass", files=FILES, **changes):
    accuracy = {"value": 0.95, "low": 0.9, "high": 0.98, "confidence": 0.95, "n": 60, "units": 60, "lower": 0.91,
                "upper": 0.97}
    run = {"run_id": "r1", "variant": "default", "metrics": {"accuracy": accuracy}, "steps": [],
           "decision": {"format": 1, "status": status, "reason": "a < b", "results": []},
           "provenance": asdict(ORIGIN)} | changes
    release = Release("iris", version, "2026-01-02T03:04:05+00:00", "multiclass", "species", (), (), run, {}, None,
                      {path: hash_bytes(data) for path, data in files.items()})
    store = Store(settings.release_store)
    for path, data in files.items():
        store.write(f"{release.folder}/{path}", data)
    store.write(f"{release.folder}/manifest.json", release.to_json())
    return store


def read_page(settings, version=1):
    return (build_site(settings).parent / f"iris/{version}/index.html").read_text()


def test_a_site_without_releases_is_a_page(settings):
    page = build_site(settings).read_text()
    assert page.count("<h2") >= 3
    assert "flights" in page


def test_each_release_has_its_page_reports_and_events(settings):
    store = keep_release(settings, 1)
    keep_release(settings, 2, "inconclusive")
    add_event(store, "iris", lambda number, champion: Event(number, "promote", 1, champion, "2026-01-02", "ada",
                                                            "<b>why</b>", "local"))
    home = build_site(settings)
    assert home.read_text().index("iris/2") < home.read_text().index("iris/1"), "the newest comes first"
    first = (home.parent / "iris/1/index.html").read_text()
    assert "&lt;b&gt;why&lt;/b&gt;" in first
    assert "&lt;ada&gt;" in first
    assert "c0ffee with changes not committed" in first
    assert "a &lt; b" in first
    assert (home.parent / "iris/1/reports/evaluate.html").read_bytes() == FILES["reports/evaluate.html"]
    assert not (home.parent / "iris/1/params.json").exists()


def test_every_link_leads_to_a_file_and_nothing_is_loaded_from_elsewhere(settings):
    keep_release(settings, 1)
    home = build_site(settings)
    for page in (home, home.parent / "iris/1/index.html"):
        text = page.read_text()
        assert [tag for tag in re.findall("<script[^>]*>", text) if "application/json" not in tag] == []
        assert not re.findall(r"""src\s*=\s*["']?(?!data:)""", text)
        links = [link for link in re.findall(r'href="([^"#]+)', text) if "://" not in link]
        assert links or page == home
        assert not [link for link in links if not (page.parent / link).is_file()]


def test_the_page_tells_in_the_order_in_which_a_reader_asks(settings):
    names = ("train", "extra", "prepare", "evaluate")  # as a bundle may list them
    files = {f"reports/{name}.html": REPORT.format(name).encode() for name in names}
    keep_release(settings, 1, files=files)
    steps = [{"name": name, "status": "ran", "seconds": 1.0, "key": name} for name in ("prepare", "train", "evaluate")]
    keep_release(settings, 2, files=files, steps=steps)
    wanted = ["decision", "changes", "provenance", "step-prepare", "step-train", "step-evaluate", "step-extra", "data"]
    for version in (1, 2, 1):  # and again over what was built before
        page = read_page(settings, version)
        assert re.findall(r'<section id="([^"]+)"', page) == wanted
        assert re.findall(r'<li><a href="#([^"]+)">', page) == wanted
        (settings.root / settings.site / "iris" / str(version) / "reports/train.html").unlink()


def test_headings_and_ids_are_those_of_one_page(settings):
    files = {f"reports/{name}.html": REPORT.format(name).encode() for name in ("prepare", "train", "evaluate")}
    keep_release(settings, 1, files=files)
    page = read_page(settings)
    ids = re.findall(r'\bid="([^"]*)"', page)
    assert len(ids) == len(set(ids))
    assert {"step-train-Title", "step-train-Rows", "step-train-drawing1-c"} <= set(ids)
    levels = [int(level) for level in re.findall(r"<h(\d)", page)]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert page.count("<div>left open</div>") == 3, "what a report leaves open does not swallow the rest"
    assert 'lang="en"' in page


@pytest.mark.parametrize("gone", ["never bundled", "lost"])
def test_a_report_that_is_missing_is_said_and_stops_nothing(settings, gone):
    files = {"reports/train.html": REPORT.format("train").encode(), **FILES}
    store = keep_release(settings, 1, files=FILES if gone == "never bundled" else files)
    if gone == "lost":
        store.delete("iris/1/reports/train.html")
    page = read_page(settings)
    assert page.count("The report of this step is not in the bundle.") == 2
    assert 'href="reports/train.html"' not in page
    assert "The evaluate" in page


@pytest.mark.parametrize("decision", [{}, {"format": 9, "status": "pass"}, {"format": 1, "status": "fail"}])
def test_a_decision_of_another_version_is_named_at_least(settings, decision):
    keep_release(settings, 1, decision=decision, files={})
    assert f" {decision.get('status', 'inconclusive')}. Another version of cd4ml" in read_page(settings)


def test_no_text_ends_the_data_early_and_programs_read_the_same_beside_the_page(settings):
    evil = "</script><script>alert(1)</script><!--"
    keep_release(settings, 1, params={"train": {"name": evil, "seed": 7}, "evaluate": {"seed": 8}})
    page = read_page(settings)
    assert page.count("<script") == page.count("</script") == 1
    assert evil not in page
    inside = re.search(r'<script type="application/json" id="release-data">(.*?)</script>', page, re.DOTALL)[1]
    whole = json.loads(inside)
    assert whole["release"]["run"]["params"]["train"]["name"] == evil
    assert whole == json.loads((settings.root / settings.site / "iris/1/release.json").read_text())
    assert whole["changes"]["champion"] is None
    assert "train 7, evaluate 8" in page


def test_it_says_whether_it_serves(settings):
    store = keep_release(settings, 1)
    keep_release(settings, 2)
    assert "No release of this problem serves yet." in read_page(settings)
    for version in (1, 2):
        add_event(store, "iris", lambda number, champion, version=version: Event(
            number, "promote", version, champion, "2026-01-02T03:04:05", "ada", "", "local"))
    add_event(store, "iris", lambda number, champion: Event(number, "refuse", 1, champion, "2026-01-03", "ada", "", ""))
    assert "It no longer serves; release 2 does." in read_page(settings)
    assert "It serves since 2026-01-02." in read_page(settings, 2)
    assert "promoted by ada, local<" in read_page(settings, 2)


def test_the_page_forbids_scripts_and_the_network(settings):
    keep_release(settings, 1)
    assert "default-src 'none'; img-src data:;" in read_page(settings)


def test_built_twice_it_is_the_same_and_grows_with_the_store(settings):
    keep_release(settings, 1)
    before, page = build_site(settings).read_bytes(), (settings.root / settings.site / "iris/1/index.html")
    first, stamp = page.read_bytes(), page.stat().st_mtime_ns
    assert build_site(settings).read_bytes() == before
    assert (page.read_bytes(), page.stat().st_mtime_ns) == (first, stamp)
    keep_release(settings, 2)
    assert build_site(settings).read_bytes() != before


def test_an_altered_report_is_not_published(settings):
    keep_release(settings, 1).write("iris/1/reports/evaluate.html", b"<html>another</html>")
    with pytest.raises(StoreError, match=r"evaluate\.html' is not what was stored"):
        build_site(settings)
    assert not list((settings.root / settings.site).rglob("evaluate.html"))


def test_a_value_that_a_template_needs_is_not_left_out_silently():
    import jinja2

    with pytest.raises(jinja2.UndefinedError):
        fill_page("home.html.j2", {})
