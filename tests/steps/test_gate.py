"""A finished run before the gate again, with the command: other rules, another champion, and never another training."""

import json
import shutil

import pytest

pytestmark = pytest.mark.slow

STRICT = "extends: default\nevaluate:\n  rules:\n    - metric: accuracy\n      at_least: 0.999\n"


@pytest.fixture(scope="module")
def judged(shared_workbench):
    """Return a workbench with one run of iris, and that run."""
    run = shared_workbench.call_json("run", "iris")
    (shared_workbench.folder / "params/iris/strict.yaml").write_text(STRICT)
    return shared_workbench, run


def list_files(workbench, *steps):
    """Return when each file that `steps` left was last written."""
    places = [path.parent for step in steps for path in (workbench.folder / ".cd4ml/steps").glob(f"*/{step}.ipynb")]
    return {path: path.stat().st_mtime_ns for place in places for path in place.iterdir()
            if path.name != "ingredients.json"}  # whose time says when it was last of use


def list_uses(workbench):
    return [json.loads(path.read_text()) for path in (workbench.folder / "releases/iris/holdouts").glob("*/*.json")]


def test_with_nothing_changed_the_decision_is_that_of_the_run(judged):
    workbench, run = judged
    verdict = workbench.call_json("gate", "iris")
    assert (verdict["run"], verdict["decision"]) == (run["run_id"], run["decision"])
    assert verdict["evaluation"]["status"] == "cached"
    assert (verdict["judged_against"], verdict["holdout_use"]["count"]) == (None, 1)


def test_another_rule_gives_another_decision_without_training(judged):
    workbench, run = judged
    before = list_files(workbench, "prepare", "train")
    verdict = workbench.call_json("gate", "iris", run["run_id"][:10], "--params", "strict", code=1)
    assert verdict["decision"]["status"] in ("fail", "inconclusive")
    assert verdict["evaluation"]["status"] == "ran"
    assert "at_least" in str(verdict["decision"]["results"][-1]["rule"])
    code, out, err = workbench.call("gate", "iris", "--params", "strict")
    assert code == 1
    assert "Accuracy ≥ 0.999" in out
    assert [line.split()[0] for line in err.splitlines()] == ["evaluate"]
    assert "unchanged" in err
    assert list_files(workbench, "prepare", "train") == before
    assert workbench.call_json("gate", "iris")["decision"]["status"] == "pass", "the run itself is as it was"


def test_what_was_asked_again_of_the_same_model_is_one_use(judged):
    workbench, run = judged
    assert [(use["run"], use["who"], use["number"]) for use in list_uses(workbench)] == [(run["run_id"], "ada", 1)]


def test_each_variant_of_a_sweep_is_a_use(judged):
    workbench, _ = judged
    workbench.call_json("sweep", "iris", "-p", "train.C=0.1,1,10")
    assert sorted(use["number"] for use in list_uses(workbench)) == [1, 2, 3], "C=1 is the model of the run"
    workbench.call_json("sweep", "iris", "-p", "train.C=0.1,1,10")
    assert len(list_uses(workbench)) == 3
    assert {use["holdout"] for use in list_uses(workbench)} == {use["holdout"] for use in list_uses(workbench)[:1]}


def test_the_champion_is_that_of_today(judged):
    workbench, run = judged
    workbench.call_json("release", "iris", "-p", "train.C=10.0", "--promote")
    verdict = workbench.call_json("gate", "iris", run["run_id"])
    assert (verdict["judged_against"], verdict["evaluation"]["status"]) == (1, "ran")


def test_what_does_not_exist_ends_with_two(judged):
    workbench, run = judged
    code, out, err = workbench.call("gate", "iris", f"{run['run_id'][:-1]}x")
    assert (code, out) == (2, "")
    assert f"Did you mean '{run['run_id']}'" in err
    assert workbench.call("gate", "houses")[0] == 2


def test_the_doctor_tells_how_often_a_holdout_was_used(judged):
    workbench, _ = judged
    findings = {one["subject"]: one["finding"] for one in workbench.call_json("doctor")["findings"]}
    uses = list_uses(workbench)
    assert f"models judged on holdout {uses[0]['holdout'][:16]}: {len(uses)}" in findings["iris"]


def test_a_run_whose_files_are_gone_says_so(judged):
    workbench, run = judged
    shutil.rmtree(workbench.folder / ".cd4ml/steps")
    code, _, err = workbench.call("gate", "iris", run["run_id"])
    assert code == 2
    assert "left is gone" in err
    assert "cd4ml run iris" in err
