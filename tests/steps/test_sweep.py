"""Sweeps, with the command: what is shared, what fails, what is interrupted, and what the ranking says."""

import json
import os
import re
import signal
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def fail_where(condition):
    """Return a change that lets a notebook fail where `condition` holds."""

    def change(notebook):
        cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
        first = next(cell for cell in cells if "parameters" not in cell["metadata"].get("tags", ()))
        first["source"] = [f"if {condition}:\n", "    raise ValueError('this variant is bad')\n", *first["source"]]

    return change


def count_steps(workbench, name):
    return len(list((workbench.folder / ".cd4ml" / "steps").glob(f"*/{name}.ipynb")))


@pytest.fixture(scope="module")
def swept(shared_workbench):
    """Return a workbench with its sweep of four variants, of which one fails in training."""
    workbench = shared_workbench
    workbench.edit_notebook("train", fail_where("options.get('C') == 1"))
    found = workbench.call_json("sweep", "iris", "-p", "train.C=0.001,0.1,1,10", code=1)
    return workbench, found


def test_one_bad_variant_does_not_stop_the_others(swept):
    _, found = swept
    assert [bool(one["error"]) for one in found["variants"]] == [False, False, True, False]
    bad = found["variants"][2]
    assert (bad["name"], bad["values"]) == ("C=1", {"train.C": 1})
    assert "this variant is bad" in bad["error"]
    assert "this variant is bad" in Path(bad["report"]).read_text()
    assert [step["status"] for step in bad["steps"]][1:] == ["failed"]


def test_the_ranking_is_honest_about_the_choice(swept):
    _, found = swept
    ranking, corrected = found["selection"]["ranking"], found["selection"]["corrected"]
    assert {one["name"] for one in ranking} == {"C=0.001", "C=0.1", "C=10"}
    values = [one["interval"]["value"] for one in ranking]
    assert values == sorted(values, reverse=True)
    assert ranking[-1]["name"] == "C=0.001"
    assert corrected["value"] <= values[0]
    assert corrected["low"] <= corrected["value"] <= corrected["high"]
    page = Path(found["report"]).read_text()
    assert "best of 3 on one holdout" in page
    assert "C=1" in page
    assert "<svg" in page


def test_the_page_leads_to_the_page_of_each_variant(swept):
    _, found = swept
    page = Path(found["report"])
    links = dict(re.findall(r'<a href="([^":]+\.html)">([^<]+)</a>', page.read_text()))
    assert sorted(links.values()) == sorted(one["name"] for one in found["variants"])
    for link, name in links.items():
        one = next(one for one in found["variants"] if one["name"] == name)
        assert page.parent / link == Path(one["report"])


def test_shared_steps_ran_once(swept):
    workbench, found = swept
    assert {one["steps"][0]["key"] for one in found["variants"]} == {found["variants"][0]["steps"][0]["key"]}
    assert (count_steps(workbench, "prepare"), count_steps(workbench, "evaluate")) == (1, 3)


def test_mlflow_has_a_parent_and_a_child_for_each_variant(swept):
    from mlflow import MlflowClient

    workbench, found = swept
    client = MlflowClient(f"sqlite:///{workbench.folder}/.cd4ml/mlflow.db")
    parent = client.get_run(found["mlflow_run"])
    assert parent.data.params["best"] == found["selection"]["ranking"][0]["name"]
    assert {"corrected_accuracy", "corrected_accuracy_low"} <= set(parent.data.metrics)
    query = f"tags.`mlflow.parentRunId` = '{found['mlflow_run']}'"
    children = {run.info.run_name: run for run in client.search_runs([parent.info.experiment_id], query)}
    assert set(children) == {one["name"] for one in found["variants"]}
    assert children["C=1"].info.status == "FAILED"
    assert children["C=10"].data.params["train.C"] == "10.0"
    assert "accuracy_low" in children["C=10"].data.metrics


def test_the_best_one_is_run_with_the_words_that_it_says_and_nothing_runs_twice(swept):
    workbench, found = swept
    best = next(one for one in found["variants"] if one["name"] == found["selection"]["ranking"][0]["name"])
    run = workbench.call_json("run", "iris", *best["words"])
    assert [step["status"] for step in run["steps"]] == ["cached"] * 3
    assert [step["key"] for step in run["steps"]] == [step["key"] for step in best["steps"]]


def test_an_unchanged_sweep_is_the_one_that_it_repeats(swept):
    workbench, _ = swept
    words = ("sweep", "iris", "-p", "train.C=0.1,10")
    first, second = workbench.call_json(*words), workbench.call_json(*words)
    assert first["sweep_id"] == second["sweep_id"]
    assert len(list((workbench.folder / ".cd4ml" / "sweeps" / "iris").glob("2*"))) == 2
    sweeps = [run for run in workbench.find_runs("iris") if run.info.run_name.startswith("sweep")]
    assert len(sweeps) == 2, "a sweep in which nothing ran is not a new one"


def test_a_file_of_named_variants(swept):
    workbench, _ = swept
    (workbench.folder / "variants.yaml").write_text("weak:\n  train: {C: 0.001}\nstrong:\n  train:\n    C: 10\n")
    found = workbench.call_json("sweep", "iris", "--from", "variants.yaml", "--by", "log_loss")
    assert [one["name"] for one in found["variants"]] == ["weak", "strong"]
    assert [one["name"] for one in found["selection"]["ranking"]] == ["strong", "weak"]


def test_variants_of_different_holdouts_are_not_ranked_together(swept):
    workbench, _ = swept
    found = workbench.call_json("sweep", "iris", "-p", "prepare.seed=1,2", "-p", "train.C=10")
    assert len(found["selection"]["ranking"]) == 1
    assert "It was judged on another holdout" in Path(found["report"]).read_text()


def test_all_that_is_wrong_is_said_before_anything_runs(swept):
    workbench, _ = swept
    before = count_steps(workbench, "prepare")
    code, out, err = workbench.call("sweep", "iris", "-p", "train.C=-1,nothing,1", "-p", "prepare.seed=77")
    assert (code, out) == (2, "")
    assert "2 of 3 variants are wrong" in err
    assert "train.C=-1" in err
    assert "train.C=nothing" in err
    assert count_steps(workbench, "prepare") == before


def test_the_list_runs_nothing(workbench):
    found = workbench.call_json("sweep", "iris", "--random", "3", "-p", "train.C=log:0.01..10", "--list")
    assert len({one["name"] for one in found["variants"]}) == 3
    assert found == workbench.call_json("sweep", "iris", "--random", "3", "-p", "train.C=log:0.01..10", "--list")
    assert not (workbench.folder / ".cd4ml/steps").exists()


def test_variants_that_run_at_once_share_the_cores(workbench):
    workbench.environ["CD4ML_WORKERS"] = str(len(os.sched_getaffinity(0)))
    workbench.edit_notebook("train", fail_where(
        "__import__('os').environ.get('OMP_NUM_THREADS') != '1' or "
        "any(one['num_threads'] > 1 for one in __import__('threadpoolctl').threadpool_info())"))
    found = workbench.call_json("sweep", "iris", "-p", "train.C=0.1,10")
    assert not any(one["error"] for one in found["variants"])


@pytest.mark.parametrize("way", ["cells", "kernel"])
def test_ctrl_c_ends_all_notebooks_and_keeps_what_was_finished(workbench, way):
    workbench.environ |= {"CD4ML_KERNELS": way, "CD4ML_WORKERS": "2"}
    workbench.edit_notebook("train", lambda notebook: notebook["cells"].append(
        {"cell_type": "code", "id": "abcd1234", "metadata": {}, "outputs": [], "execution_count": None,
         "source": ["import time, pathlib, os\n", "pathlib.Path('started').write_text(str(os.getpid()))\n",
                    "time.sleep(600)"]}))
    process = workbench.start("sweep", "iris", "-p", "train.C=0.1,10")
    until = time.monotonic() + 120
    while len(found := list((workbench.folder / ".cd4ml" / "steps").glob("*.draft/started"))) < 2:
        assert time.monotonic() < until
        assert process.poll() is None
        time.sleep(0.1)
    time.sleep(0.2)
    kernels = [int(path.read_text()) for path in found]
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Interrupted" in err
    for pid in kernels:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    steps = workbench.folder / ".cd4ml" / "steps"
    assert [json.loads(path.read_bytes())["params"]["problem"] for path in steps.glob("*/ingredients.json")] == ["iris"]
