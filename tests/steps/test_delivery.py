"""The whole way on iris, with the command, in the order in which a user goes it."""

import json
import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def read_statuses(run):
    return {step["name"]: step["status"] for step in run["steps"]}


def test_the_first_release_passes_and_serves(shared_workbench):
    outcome = shared_workbench.call_json("release", "iris")
    assert {"problem", "version", "decision", "promoted", "bundle", "report"} <= set(outcome)
    assert (outcome["version"], outcome["decision"], outcome["promoted"]) == (1, "pass", True)
    assert read_statuses(outcome["run"]) == {"prepare": "ran", "train": "ran", "evaluate": "ran"}
    assert Path(outcome["report"]).read_text().count("<figure") >= 4
    accuracy = outcome["run"]["metrics"]["accuracy"]
    assert 0.85 < accuracy["low"] <= accuracy["value"] <= accuracy["high"] <= 1


def test_the_bundle_is_whole_and_points_nowhere(shared_workbench):
    from cd4ml.base.store import Store
    from cd4ml.delivery.release import read_release, verify_release

    store = Store(str(shared_workbench.folder / "releases"))
    release = read_release(store, "iris", 1)
    verify_release(store, release)
    assert {"model/model.skops", "notebooks/train.ipynb", "reports/evaluate.html", "params.json", "profile.json",
            "predictions.json", "requirements.lock", "decision.json", "metrics.json"} <= set(release.files)
    assert str(shared_workbench.folder) not in store.read("iris/1/manifest.json").decode()


def test_the_bundle_holds_the_model_in_onnx_and_it_agrees(shared_workbench):
    import pandas as pd

    from cd4ml.base.store import Store
    from cd4ml.delivery.portable import load_portable
    from cd4ml.delivery.release import read_file, read_release
    from cd4ml.model.training import load_model, predict_rows

    store = Store(str(shared_workbench.folder / "releases"))
    release = read_release(store, "iris", 1)
    portable = load_portable(read_file(store, release, "model/model.onnx"))
    rows = pd.DataFrame([{name: 0.5 + i for name, _ in release.features} for i in range(7)])
    expected = predict_rows(load_model(read_file(store, release, "model/model.skops")), rows, "multiclass")
    pd.testing.assert_frame_equal(portable.predict(rows), expected, rtol=1e-12)
    assert json.loads(read_file(store, release, "model/onnx.json"))["difference"] < 1e-12
    parity = {one["name"]: one for one in json.loads(read_file(store, release, "parity.json"))["implementations"]}
    assert (parity["ONNX"]["status"], parity["ONNX"]["tolerance"], parity["ONNX"]["flips"]) == ("agree", 1e-6, 0)
    assert "onnxruntime==" in read_file(store, release, "serving.lock").decode()


def test_a_second_release_runs_nothing_and_says_why(shared_workbench):
    outcome = shared_workbench.call_json("release", "iris")
    assert set(read_statuses(outcome["run"]).values()) == {"cached"}
    assert (outcome["version"], outcome["is_new"], outcome["promoted"]) == (1, False, True)
    assert "nothing changed since release 1" in outcome["reason"]


def test_run_gives_what_its_json_promises(shared_workbench):
    run = shared_workbench.call_json("run", "iris")
    assert run["problem"] == "iris"
    assert all({"name", "status", "seconds"} <= set(step) for step in run["steps"])
    assert all({"value", "low", "high"} <= set(metric) for metric in run["metrics"].values())
    assert Path(run["report"]).is_file()
    assert len(shared_workbench.find_runs("iris")) == 1, "a delivery in which nothing ran is not a new run"


def test_mlflow_has_the_run_with_its_steps(shared_workbench):
    from mlflow import MlflowClient

    client = MlflowClient(*[f"sqlite:///{shared_workbench.folder}/.cd4ml/mlflow.db"] * 2)
    parent = shared_workbench.find_runs("iris")[0]
    assert parent.info.status == "FINISHED"
    assert {"accuracy", "accuracy_low", "accuracy_high"} <= set(parent.data.metrics)
    assert parent.data.params["train.C"] == "1.0"
    steps = {run.info.run_name: run for run in client.search_runs([parent.info.experiment_id])
             if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id}
    assert set(steps) == {"prepare", "train", "evaluate"}
    assert {one.dataset.name for one in steps["prepare"].inputs.dataset_inputs} == {"train", "holdout", "example"}
    artifacts = {one.path for one in client.list_artifacts(steps["evaluate"].info.run_id)}
    assert {"evaluate.ipynb", "evaluate.html", "plot_headline.svg"} <= artifacts


def test_any_mlflow_client_loads_the_champion(shared_workbench):
    import mlflow
    import pandas as pd

    for choose in (mlflow.set_tracking_uri, mlflow.set_registry_uri):  # a delivery in this process chose others
        choose(f"sqlite:///{shared_workbench.folder}/.cd4ml/mlflow.db")
    model = mlflow.pyfunc.load_model("models:/iris@champion")
    release = json.loads((shared_workbench.folder / "releases/iris/1/manifest.json").read_text())
    rows = pd.DataFrame([{name: 5.0 for name, _ in release["features"]}])
    assert model.predict(rows).shape == (1, 3)
    assert "skops" in str(model.metadata.flavors["sklearn"])


def test_a_comment_runs_nothing_again(shared_workbench):
    def add_words(notebook):
        notebook["cells"][2]["source"].append("\n# a comment")
        notebook["cells"].append({"cell_type": "markdown", "id": "words", "metadata": {}, "source": ["More words."]})

    shared_workbench.edit_notebook("train", add_words)
    assert set(read_statuses(shared_workbench.call_json("run", "iris")).values()) == {"cached"}


def test_code_of_a_step_runs_that_step_and_no_earlier_one(shared_workbench):
    shared_workbench.edit_notebook("evaluate", lambda notebook: notebook["cells"][-1]["source"].append("\nlen(names)"))
    statuses = read_statuses(shared_workbench.call_json("run", "iris"))
    assert statuses == {"prepare": "cached", "train": "cached", "evaluate": "ran"}


def test_an_experiment_is_bundled_but_does_not_serve(shared_workbench):
    (shared_workbench.folder / "params/iris/firm.yaml").write_text("extends: default\ntrain:\n  C: 0.8\n")
    outcome = shared_workbench.call_json("release", "iris", "--params", "firm")
    assert outcome["version"] == 2
    assert outcome["run"]["variant"] == "firm"
    assert not outcome["promoted"]
    assert shared_workbench.call_json("releases", "iris")["champion"] == 1
    assert read_statuses(outcome["run"])["prepare"] == "cached"


def test_a_person_may_promote_an_experiment(shared_workbench):
    outcome = shared_workbench.call_json("release", "iris", "--params", "firm", "--promote")
    assert (outcome["version"], outcome["promoted"], outcome["is_new"]) == (2, True, False)
    assert shared_workbench.call_json("releases", "iris")["champion"] == 2


def test_rollback_moves_the_champion_and_mlflow_follows(shared_workbench):
    from mlflow import MlflowClient

    event = shared_workbench.call_json("rollback", "iris", "1", "--why", "a rehearsal", "--wait")["event"]
    assert (event["action"], event["previous"], event["who"], event["why"]) == ("rollback", 2, "ada", "a rehearsal")
    client = MlflowClient(*[f"sqlite:///{shared_workbench.folder}/.cd4ml/mlflow.db"] * 2)
    assert client.get_model_version_by_alias("iris", "champion").tags["release"] == "1"
    assert not shared_workbench.call_json("rollback", "iris", "1")["moved"]
    code, _, err = shared_workbench.call("rollback", "iris", "9")
    assert code == 2
    assert "Releases: 1, 2" in err


REFUSED = ("release", "iris", "-p", "evaluate.rules=[{metric: accuracy, at_least: 0.9999}]")


def test_a_gate_that_says_no_ends_with_one_and_changes_nothing(shared_workbench):
    outcome = shared_workbench.call_json(*REFUSED, code=1)
    assert outcome["decision"] in ("fail", "inconclusive")
    assert shared_workbench.call_json("releases", "iris")["champion"] == 1


def test_a_person_may_promote_what_did_not_pass_but_says_why(shared_workbench):
    code, _, err = shared_workbench.call(*REFUSED, "--promote")
    assert code == 2
    assert "--why" in err
    assert shared_workbench.call_json("releases", "iris")["champion"] == 1
    assert shared_workbench.call_json(*REFUSED, "--promote", "--why", "a rehearsal")["promoted"]
    assert shared_workbench.call_json("rollback", "iris", "1")["champion"] == 1


def test_the_site_leads_from_home_to_reports(shared_workbench):
    home = Path(shared_workbench.call_json("site")["home"])
    assert 'href="iris/1/index.html"' in home.read_text()
    page = (home.parent / "iris/1/index.html").read_text()
    parts = ["decision", "changes", "provenance", "step-prepare", "step-train", "step-evaluate", "data"]
    places = [page.index(f'<section id="{part}"') for part in parts]
    assert places == sorted(places)
    assert page.index("✓ pass") < places[1]
    for name in ("reports/evaluate.html", "notebooks/train.ipynb"):
        assert f'href="{name}"' in page
        assert (home.parent / "iris/1" / name).is_file()
    assert not re.search(r"""(src|href)=["']?(http|//)""", page)
    whole = json.loads((home.parent / "iris/2/release.json").read_text())
    assert {"name": "train.C", "before": 1.0, "after": 0.8} in whole["changes"]["params"]
    assert whole["history"][0]["action"] == "promote"


def test_doctor_finds_a_damaged_release(shared_workbench):
    assert shared_workbench.call_json("doctor")["healthy"]
    report = shared_workbench.folder / "releases/iris/2/reports/train.html"
    report.write_text(report.read_text() + " ")
    found = shared_workbench.call_json("doctor", code=2)
    assert any("reports/train.html" in one["finding"] for one in found["findings"])
    code, _, err = shared_workbench.call("rollback", "iris", "2")
    assert code == 2
    assert "reports/train.html" in err
    assert shared_workbench.call_json("releases", "iris")["champion"] == 1


def test_a_model_that_cannot_be_converted_is_released_without_and_says_why(workbench):
    def spoil(notebook):
        for cell in notebook["cells"]:
            text = "".join(cell["source"])
            dated = "rows.astype({'sepal_length': 'datetime64[s]'})"
            cell["source"] = text.replace("try_export(model, rows[", f"try_export(model, {dated}[")

    workbench.edit_notebook("train", spoil)
    outcome = workbench.call_json("release", "iris")
    assert (outcome["decision"], outcome["promoted"]) == ("pass", True)
    folder = workbench.folder / "releases/iris/1"
    assert not (folder / "model/model.onnx").exists()
    told = json.loads((folder / "model/onnx.json").read_text())
    assert not told["exists"]
    assert "sepal_length: datetime64[s]" in told["reason"]
    assert "There is no ONNX form" in (folder / "reports/evaluate.html").read_text()
    assert "sepal_length: datetime64[s]" in (folder / "reports/train.html").read_text()
    assert "ONNX" not in {one["name"] for one in json.loads((folder / "parity.json").read_text())["implementations"]}
