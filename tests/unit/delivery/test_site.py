"""The site of a store that is empty, that grows, and in which a report was altered."""

import re
from dataclasses import asdict, replace

import pytest

from cd4ml.base.errors import StoreError
from cd4ml.base.fingerprint import hash_bytes
from cd4ml.base.settings import load_settings
from cd4ml.base.store import Store
from cd4ml.delivery.provenance import Provenance
from cd4ml.delivery.release import Event, Release, add_event
from cd4ml.delivery.site import build_site, fill_page

ORIGIN = Provenance("c0ffee", True, "10c4", "3.11.2", "<ada>", "here")


@pytest.fixture
def settings(root, tmp_path):
    return replace(load_settings(root, environ={}), release_store=str(tmp_path / "store"), site=str(tmp_path / "site"))


def keep_release(settings, version, decision="pass"):
    files = {"reports/evaluate.html": b"<html>a report</html>", "notebooks/evaluate.ipynb": b"{}", "params.json": b"{}"}
    accuracy = {"value": 0.95, "low": 0.9, "high": 0.98, "confidence": 0.95, "n": 60, "units": 60, "lower": 0.91,
                "upper": 0.97}
    run = {"run_id": "r1", "variant": "default", "metrics": {"accuracy": accuracy}, "steps": [],
           "decision": {"format": 1, "status": decision, "reason": "a < b", "results": []},
           "provenance": asdict(ORIGIN)}
    release = Release("iris", version, "2026-01-02T03:04:05+00:00", "multiclass", "species", (), (), run, {}, None,
                      {path: hash_bytes(data) for path, data in files.items()})
    store = Store(settings.release_store)
    for path, data in files.items():
        store.write(f"{release.folder}/{path}", data)
    store.write(f"{release.folder}/manifest.json", release.to_json())
    return store


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
    assert (home.parent / "iris/1/reports/evaluate.html").read_bytes() == b"<html>a report</html>"
    assert not (home.parent / "iris/1/params.json").exists()


def test_every_link_leads_to_a_file_and_nothing_is_loaded_from_elsewhere(settings):
    keep_release(settings, 1)
    home = build_site(settings)
    for page in (home, home.parent / "iris/1/index.html"):
        text = page.read_text()
        assert "<script" not in text
        assert not re.findall(r"""src\s*=\s*["']?(?!data:)""", text)
        links = [link for link in re.findall(r'href="([^"#]+)', text) if "://" not in link]
        assert links or page == home
        assert not [link for link in links if not (page.parent / link).is_file()]


def test_built_twice_it_is_the_same_and_grows_with_the_store(settings):
    keep_release(settings, 1)
    before = build_site(settings).read_bytes()
    assert build_site(settings).read_bytes() == before
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
