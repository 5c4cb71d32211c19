"""The page of a running server in a real browser: a prediction, a mistake, a key, and nothing from elsewhere."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from cd4ml.base.fingerprint import hash_bytes
from cd4ml.base.store import Store
from cd4ml.data.profile import profile_frame
from cd4ml.delivery.history import Event, add_event
from cd4ml.delivery.manifest import Release
from cd4ml.model.training import dump_model

pytestmark = [pytest.mark.browser, pytest.mark.slow]
ROOT = Path(__file__).resolve().parents[2]
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
REPORT = f"""<!doctype html><title>Report</title>
<style>h1 {{ color: rgb(1, 2, 3) }}</style><h1>May it serve?</h1>
<p style="color: rgb(4, 5, 6)">Yes</p><img src="data:image/png;base64,{PIXEL}">
<svg width="9" height="9"><path d="M0 0h9"/></svg><script>document.title = "it ran"</script>
<img src="x" onerror="document.title = 'it ran'">"""
SERVER = """
from cd4ml.base.settings import load_settings
from cd4ml.production.limits import Listening
from cd4ml.production.serving import serve_problem
serve_problem(load_settings(), "toy", Listening(port=0), announce=lambda address, release: print(address, flush=True))
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    import json

    folder = tmp_path_factory.mktemp("page")
    rng, store = np.random.default_rng(2), Store(str(folder / "releases"))
    rows = pd.DataFrame({"temperature": rng.normal(50, 9, 90), "floors": rng.integers(1, 9, 90)})
    files = {"model/model.skops": dump_model(LogisticRegression().fit(rows, rows["temperature"] > 50)),
             "profile.json": json.dumps(profile_frame(rows).to_dict()).encode(),
             "reports/evaluate.html": REPORT.encode()}
    features = tuple((name, str(kind)) for name, kind in rows.dtypes.items())
    run = {"decision": {"status": "pass"}, "metrics": {}, "report": "reports/evaluate.html"}
    release = Release("toy", 1, "2026-01-02T03:04:05+00:00", "binary", "warm", features, (False, True), run, {}, None,
                      {path: hash_bytes(data) for path, data in files.items()})
    for path, data in {**files, "manifest.json": release.to_json()}.items():
        store.write(f"toy/1/{path}", data)
    add_event(store, "toy", lambda number, _: Event(number, "promote", 1, None, "", "ada", "", "ci"))
    places = {"CD4ML_ROOT": str(ROOT), "CD4ML_RELEASE_STORE": store.url, "CD4ML_API_KEYS": "a secret",
              "CD4ML_PREDICTION_LOG": str(folder / "log")}
    process = subprocess.Popen([sys.executable, "-c", SERVER], env=os.environ | places, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    yield process.stdout.readline().strip()
    process.kill()
    process.communicate()


def open_page(browser, address, width, scheme):
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.asked, page.complaints = [], []
    page.on("request", lambda request: page.asked.append(request.url))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("console", lambda message: page.complaints.append(message.text))
    page.goto(address)
    return page


@pytest.mark.parametrize(("width", "scheme"), [(400, "light"), (1000, "dark")])
def test_a_person_asks_the_model(browser, address, width, scheme):
    page = open_page(browser, address, width, scheme)
    assert page.get_by_label("temperature").input_value()
    assert "in training" in page.locator(".hint").first.inner_text()
    page.get_by_text("Give a key to see them.").wait_for()
    page.get_by_role("button", name="Predict").click()
    page.get_by_text("The API key is missing or wrong").wait_for()
    page.get_by_label("API key").fill("a secret")
    page.get_by_label("API key").press("Tab")
    page.get_by_role("row", name="1, it answers pass 2026-01-02 report").wait_for()

    page.get_by_label("floors").fill("2.5")
    page.get_by_label("temperature").fill("warm")
    page.get_by_label("temperature").press("Enter")
    page.get_by_text('got "warm"').wait_for()
    assert page.locator("[aria-invalid=true]").count() == 2
    page.get_by_label("floors").fill("2")
    page.get_by_label("temperature").fill("95")
    page.get_by_role("button", name="Predict").click()
    page.get_by_text("warm: true").wait_for()
    assert page.locator("[aria-invalid=true]").count() == 0
    assert "probability of true" in page.locator("#answer").inner_text()
    assert "Release 1 · prediction" in page.locator("#answer").inner_text()
    with page.expect_popup() as popup:
        page.get_by_role("link", name="report").click()
    popup.value.get_by_text("May it serve?").wait_for()

    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert all(url.startswith((address, "blob:" + address)) for url in page.asked)
    assert not [text for text in page.complaints if "Failed to load resource" not in text]
    page.close()


@pytest.mark.parametrize("width", [400, 1000])
def test_the_documentation_stands_alone(browser, address, width):
    page = open_page(browser, f"{address}/docs", width, "light")
    for text in ("POST /predict", "POST /invocations", "GET /health/ready", "temperature", '"floors"'):
        assert page.get_by_text(text).count()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert {url for url in page.asked if not url.endswith("favicon.ico")} == {f"{address}/docs"}
    assert not page.complaints
    page.close()


def test_a_report_shows_what_it_has_and_runs_nothing(browser, address):
    page = browser.new_page(extra_http_headers={"X-API-Key": "a secret"})
    assert page.goto(f"{address}/reports/1").headers["x-content-type-options"] == "nosniff"
    page.wait_for_load_state()
    style = "one => getComputedStyle(document.querySelector(one)).color"
    assert [page.evaluate(style, one) for one in ("h1", "p")] == ["rgb(1, 2, 3)", "rgb(4, 5, 6)"]
    assert page.evaluate("document.images[0].naturalWidth") == 1
    assert page.locator("svg").is_visible()
    assert page.title() == "Report"
    assert page.evaluate("origin") == "null"  # no page of the server: it has none of its storage, nor its keys
    page.close()
