"""The site of a store that is empty, that grows, and in which a report was altered."""

import base64
import hashlib
import itertools
import json
import re
from dataclasses import asdict, replace

import pytest

from cd4ml.base.fingerprint import hash_bytes
from cd4ml.base.settings import load_settings
from cd4ml.base.store import Store
from cd4ml.delivery import site as site_module
from cd4ml.delivery.history import Event, add_event
from cd4ml.delivery.manifest import Release
from cd4ml.delivery.pages import RECORD, fill_page
from cd4ml.delivery.provenance import Provenance
from cd4ml.delivery.results import Result, write_record
from cd4ml.delivery.site import build_site

ORIGIN = Provenance("c0ffee", True, "10c4", "3.11.2", "<ada>", "here")


@pytest.fixture(autouse=True, scope="module")
def known_data():
    """Read each dataset once for all tests."""
    with pytest.MonkeyPatch.context() as patch:
        found = {}

        def describe(problem, dataset, root, real=site_module.describe_dataset):
            if dataset.name not in found:
                found[dataset.name] = real(problem, dataset, root)
            return found[dataset.name]

        patch.setattr(site_module, "describe_dataset", describe)
        yield


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
    return (build_site(settings).home.parent / f"iris/{version}/index.html").read_text()


def test_a_site_without_releases_is_a_page(settings):
    page = build_site(settings).home.read_text()
    assert page.count("<h2") >= 3
    assert "flights" in page


def test_each_release_has_its_page_reports_and_events(settings):
    store = keep_release(settings, 1)
    keep_release(settings, 2, "inconclusive")
    add_event(store, "iris", lambda number, champion: Event(number, "promote", 1, champion, "2026-01-02", "ada",
                                                            "<b>why</b>", "local"))
    home = build_site(settings).home
    assert re.findall('row"><a href="iris/(.)/', home.read_text()) == ["2", "1"], "the newest comes first"
    first = (home.parent / "iris/1/index.html").read_text()
    assert "&lt;b&gt;why&lt;/b&gt;" in first
    assert "&lt;ada&gt;" in first
    assert "c0ffee with changes not committed" in first
    assert "a &lt; b" in first
    assert (home.parent / "iris/1/reports/evaluate.html").read_bytes() == FILES["reports/evaluate.html"]
    assert not (home.parent / "iris/1/params.json").exists()
    kept, = re.findall(r'href="\.\./\.\./(files/[^"]*params\.json)" download', first)
    assert (home.parent / kept).read_bytes() == FILES["params.json"]


def test_every_link_leads_to_a_file_and_nothing_is_loaded_from_elsewhere(settings):
    keep_release(settings, 1)
    home = build_site(settings).home
    for page in (home, home.parent / "iris/1/index.html"):
        text = page.read_text()
        running = [tag for tag in re.findall("<script[^>]*>", text) if "application/json" not in tag]
        assert running == (["<script>"] if page == home else [])
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
    wanted = ["decision", "changes", "provenance", "step-prepare", "step-train", "step-evaluate", "step-extra", "files",
              "data"]
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
    assert ("This release is damaged" in page) == (gone == "lost")
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
    assert whole["changes"]["before"] is None
    assert "train 7, evaluate 8" in page


def test_it_says_whether_it_serves(settings):
    store = keep_release(settings, 1)
    keep_release(settings, 2)
    assert "It has never served." in read_page(settings)
    for version in (1, 2):
        add_event(store, "iris", lambda number, champion, version=version: Event(
            number, "promote", version, champion, "2026-01-02T03:04:05", "ada", "", "local"))
    add_event(store, "iris", lambda number, champion: Event(number, "refuse", 1, champion, "2026-01-03", "ada", "", ""))
    assert "It no longer serves: release 2 took its place on 2026-01-02." in read_page(settings)
    assert "It serves since 2026-01-02." in read_page(settings, 2)
    assert "promoted by ada, local<" in read_page(settings, 2)


def test_the_page_forbids_scripts_and_the_network(settings):
    keep_release(settings, 1)
    page = read_page(settings)
    assert "default-src 'none'; img-src data:;" in page
    assert "script-src" not in page
    home = (settings.root / settings.site / "index.html").read_text()
    script = re.search("<script>(.*?)</script>", home, re.DOTALL)[1]
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{allowed}'\"" in home


def test_built_twice_nothing_is_made_and_it_grows_with_the_store(settings):
    keep_release(settings, 1)
    first = build_site(settings)
    stamps = {path: path.stat().st_mtime_ns for path in first.home.parent.rglob("*") if path.is_file()}
    again = build_site(settings)
    assert (again.made, again.kept, again.removed) == (0, first.made, 0)
    assert {path: path.stat().st_mtime_ns for path in first.home.parent.rglob("*") if path.is_file()} == stamps
    keep_release(settings, 2)
    third = build_site(settings)
    assert third.made == 5, "its page, what changed, the page of its neighbour, of its problem, and home"
    assert (third.home.parent / "iris/2/from-1.html").is_file()


def test_an_event_renews_only_the_pages_that_tell_of_it(settings):
    for version in (1, 2, 3):
        store = keep_release(settings, version)
    build_site(settings)
    for version in (1, 2):
        add_event(store, "iris", lambda number, champion, version=version: Event(
            number, "promote", version, champion, "2026-01-02T03:04:05", "ada", "", "local"))
    third = (settings.root / settings.site / "iris/3/index.html").stat().st_mtime_ns
    assert build_site(settings).made == 5, "two releases, their problem, home, and the catalog with its champion"
    assert (settings.root / settings.site / "iris/3/index.html").stat().st_mtime_ns == third


def test_the_pages_of_a_pruned_release_are_removed_and_shared_files_stay(settings):
    store = keep_release(settings, 1)
    keep_release(settings, 2, files={**FILES, "profile.json": b'{"a": 1}'})
    site = build_site(settings).home.parent
    assert list(site.glob("files/*/profile.json"))
    store.delete("iris/2")
    assert build_site(settings).removed == 2
    assert not (site / "iris/2").exists()
    assert not list(site.glob("files/*/profile.json"))
    assert len(list(site.glob("files/*/params.json"))) == 1
    assert 'href="../2' not in (site / "iris/1/index.html").read_text()


@pytest.mark.parametrize("path", ["reports/evaluate.html", "params.json"])
def test_what_was_altered_is_named_and_never_shown(settings, path):
    store = keep_release(settings, 1)
    keep_release(settings, 2)
    site = build_site(settings).home.parent
    store.write(f"iris/1/{path}", b"<html>another</html>")
    for _ in range(2):  # also when nothing is left to be made
        assert build_site(settings).faults == (f"iris/1: 'iris/1/{path}' is not what was stored",)
    page = (site / "iris/1/index.html").read_text()
    assert "This release is damaged" in page
    assert "✘ damaged" in (site / "index.html").read_text()
    assert "✘ damaged" in (site / "iris/index.html").read_text()
    assert not [one for one in site.rglob("*.*") if one.is_file() and b"another</html>" in one.read_bytes()]
    assert (site / "iris/1/reports/evaluate.html").exists() == (path == "params.json")
    store.write(f"iris/1/{path}", FILES[path])
    assert build_site(settings).faults == ()
    assert "This release is damaged" not in (site / "iris/1/index.html").read_text()


def test_a_manifest_that_was_altered_is_named_and_the_rest_is_built(settings):
    store = keep_release(settings, 1)
    keep_release(settings, 2)
    store.write("iris/1/manifest.json", store.read("iris/1/manifest.json").replace(b"c0ffee", b"c0ffe0"))
    built = build_site(settings)
    assert built.faults == ("iris/1/manifest.json: The manifest was altered",)
    page = (built.home.parent / "iris/1/index.html").read_text()
    assert "The manifest was altered" in page
    assert "c0ffe0" not in page
    assert "The evaluate" in (built.home.parent / "iris/2/index.html").read_text()


def test_a_history_that_cannot_be_read_is_not_called_an_empty_one(settings):
    store = keep_release(settings, 1)
    store.write("iris/history/000001.json", b"{")
    built = build_site(settings)
    assert len(built.faults) == 1
    assert "The history is damaged" in built.home.read_text()
    assert "No release serves yet" not in built.home.read_text()


def test_a_build_that_was_interrupted_goes_on(settings, monkeypatch):
    from cd4ml.delivery import pages

    for version in range(1, 5):
        keep_release(settings, version)
    site, written = settings.root / settings.site, []

    def write_some(path, data, write=pages.write_atomic):
        if len(written) == 12:
            raise KeyboardInterrupt
        written.append(path)
        write(path, data)

    with monkeypatch.context() as patched:
        patched.setattr(pages, "write_atomic", write_some)
        with pytest.raises(KeyboardInterrupt):
            build_site(settings)
    assert not list(site.rglob("*.part"))
    assert (site / "iris/1/index.html").is_file()
    build_site(settings)
    whole = {path.relative_to(site): path.read_bytes() for path in site.rglob("*") if path.is_file()}
    again = replace(settings, site=f"{settings.site}-again")
    build_site(again)
    other = settings.root / again.site
    assert whole == {path.relative_to(other): path.read_bytes() for path in other.rglob("*") if path.is_file()}


@pytest.mark.parametrize("record", [b"", b"[]", b'{"format": 9, "pages": {}}', b'{"format": 1, "pages": {"a": 1}}'])
def test_a_record_that_cannot_be_read_makes_everything_again(settings, record):
    keep_release(settings, 1)
    first = build_site(settings)
    (first.home.parent / RECORD).write_bytes(record)
    assert build_site(settings).made == first.made
    assert build_site(settings).made == 0


def test_a_page_that_was_lost_is_made_again(settings):
    keep_release(settings, 1)
    page = build_site(settings).home.parent / "iris/1/index.html"
    page.unlink()
    assert build_site(settings).made == 1
    assert page.is_file()


def test_what_monitoring_left_has_a_page(settings, tmp_path):
    settings = replace(settings, run_store=str(tmp_path / "runs"))
    keep_release(settings, 1)
    folder = tmp_path / "runs/monitoring/iris/20260102-030405-a1b2"
    found = {"headline": "2 predictions: none drifted.", "release": 1, "alarms": [{"name": "x<y"}], "rows": 2,
             "recommendation": "look"}
    folder.mkdir(parents=True)
    (folder / "monitor.html").write_text("<p>monitored</p>")
    assert not (build_site(settings).home.parent / "iris/production").exists(), "it has not finished"
    write_record(folder, "monitor", {"monitoring": Result("monitoring", "value", "0" * 64, value=found)})
    site = build_site(settings).home.parent
    page = (site / "iris/production/index.html").read_text()
    assert "none drifted." in page
    assert "x&lt;y" in page
    assert (site / "iris/production/20260102-030405-a1b2.html").read_text() == "<p>monitored</p>"
    problem = (site / "iris/index.html").read_text()
    assert "production/index.html" in problem
    assert 'href="production/20260102-030405-a1b2.html"' in problem
    assert '<td class="inconclusive">look</td>' in problem
    assert '<td class="inconclusive">look</td>' in page
    assert "iris/production/index.html" in (site / "index.html").read_text()


def test_two_hundred_releases_are_small_on_the_home_page(settings):
    for version in range(1, 201):
        store = keep_release(settings, version, "pass" if version % 7 else "fail",
                             params={"train": {"C": version / 7, "depth": version % 9}})
    add_event(store, "iris", lambda number, champion: Event(number, "promote", 200, champion, "2026-01-02", "a", "",
                                                            ""))
    site = build_site(settings).home.parent
    assert (site / "index.html").stat().st_size < 300_000
    assert (site / "iris/index.html").stat().st_size < 300_000
    assert (site / "index.html").read_text().count('<th scope="row">') == 8
    assert (site / "iris/index.html").read_text().count('<th scope="row">') == 200
    assert build_site(settings).made == 0


def test_a_value_that_a_template_needs_is_not_left_out_silently():
    import jinja2

    with pytest.raises(jinja2.UndefinedError):
        fill_page("home.html.j2", {})
