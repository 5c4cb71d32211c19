"""When a finished step may be used again, and what `--force` and a failure leave behind."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from cd4ml.base.errors import ParameterError, StepError
from cd4ml.base.store import Store
from cd4ml.delivery.cache import Ingredients
from cd4ml.delivery.results import Step, read_record
from cd4ml.delivery.steps import (
    StepStopped,
    _replace_finished,
    explain_steps,
    find_usable,
    make_order,
    plan_later,
    read_problem_schema,
    run_steps,
)
from cd4ml.model.problem import find_problem

KEY = Ingredients(("a",), {"problem": "iris"}, 0, {}, {}, {}, {})


def finish(settings, value):
    """Keep a step with one frame and one value, as a run would."""
    import pandas as pd

    steps = Path(settings.run_store) / "steps"
    draft = steps / f"{value}.draft"
    draft.mkdir(parents=True)
    step = Step("prepare", draft, {}, Store(settings.data_store))
    step.record_frame("rows", pd.DataFrame({"a": [value]}))
    step.record_value("which", value)
    for name in ("prepare.ipynb", "prepare.html"):
        (draft / name).touch()
    return steps, _replace_finished(steps, draft, KEY)


def test_a_step_whose_snapshot_is_gone_is_not_used(settings):
    steps, folder = finish(settings, 1)
    assert find_usable(steps, KEY.key, "prepare", settings) == folder
    snapshot = read_record(folder)["rows"].sha256
    Store(settings.data_store).delete(f"snapshots/{snapshot}.parquet")
    assert find_usable(steps, KEY.key, "prepare", settings) is None


def test_a_forced_step_takes_the_place_of_the_finished_one(settings):
    finish(settings, 1)
    steps, folder = finish(settings, 2)
    assert read_record(folder)["which"].value == 2
    assert [path.name for path in steps.iterdir()] == [KEY.key]


def test_a_folder_that_was_not_finished_is_not_used(settings):
    steps, folder = finish(settings, 1)
    (folder / "ingredients.json").unlink()
    assert find_usable(steps, KEY.key, "prepare", settings) is None


@pytest.mark.slow
def test_a_lost_file_of_the_data_store_runs_the_step_again(settings):
    order = make_order(settings, "iris", steps=("prepare",))
    first = list(run_steps(order, {}))
    assert [step.status for step in first] == ["ran"]
    assert [step.status for step in run_steps(order, {})] == ["cached"]
    shutil.rmtree(settings.data_store)
    assert [step.status for step in run_steps(order, {})] == ["ran"]
    forced = list(run_steps(replace(order, force=True), {}))
    assert (forced[0].status, forced[0].key) == ("ran", first[0].key)
    assert read_record(Path(forced[0].folder)) == read_record(Path(first[0].folder)), "the same, bit by bit"


@pytest.mark.slow
def test_a_step_that_fails_while_forced_leaves_the_finished_one(settings):
    order = make_order(settings, "iris", steps=("prepare",))
    first = list(run_steps(order, {}))
    shutil.rmtree(settings.data_store)
    Path(settings.data_store).write_text("a file where the store should be")
    with pytest.raises(StepStopped) as caught:
        list(run_steps(replace(order, force=True), {}))
    assert isinstance(caught.value.__cause__, StepError)
    assert caught.value.step.status == "failed"
    assert (Path(first[0].folder) / "results.json").is_file()


def test_all_that_is_wrong_is_said_before_anything_runs(settings):
    path = settings.root / "params/iris/default.yaml"
    path.write_text("evaluate:\n  rules:\n    - {metric: acuracy, at_least: 0.5}\n    - {metric: accuracy}\n")
    with pytest.raises(ParameterError) as caught:
        make_order(settings, "iris")
    assert "2 things are wrong with the rules" in str(caught.value)
    assert "params/iris/default.yaml:2" in str(caught.value)
    assert "Did you mean 'accuracy'?" in str(caught.value)
    assert not Path(settings.run_store).exists()


def test_a_missing_step_notebook_is_named(settings):
    (settings.notebooks / "train.ipynb").unlink()
    with pytest.raises(StepError, match=r"Step notebooks are missing: train\.ipynb"):
        read_problem_schema(settings, find_problem("iris"))


def test_a_parameters_cell_that_is_no_literal_is_named(settings):
    path = settings.notebooks / "train.ipynb"
    notebook = json.loads(path.read_text())
    cell = next(cell for cell in notebook["cells"] if "parameters" in cell["metadata"].get("tags", ()))
    cell["source"] = ["import os\n", "seed: int = os.getpid()"]
    path.write_text(json.dumps(notebook))
    with pytest.raises(ParameterError, match=r"cannot be read \(train\.ipynb\)"):
        make_order(settings, "iris")


def test_what_later_steps_need_is_known_before(settings, tmp_path):
    order = make_order(settings, "iris")
    later = [plan_later(order, step, tmp_path, ("cd4ml.problems.iris",)) for step in order.steps]
    assert {"skops.io", "sklearn.linear_model", "matplotlib.figure"} <= set(later[0])
    assert "matplotlib.figure" in later[1]
    assert later[2] == ()


def test_a_step_whose_code_was_edited_while_it_ran_is_never_a_hit(settings, tmp_path, monkeypatch):
    code = tmp_path / "toy/fit.py"
    code.parent.mkdir()
    (tmp_path / "toy/__init__.py").touch()
    code.write_text("value = 1\n")
    path = settings.notebooks / "prepare.ipynb"
    notebook = json.loads(path.read_text())
    notebook["cells"].append({"cell_type": "code", "metadata": {}, "outputs": [], "source": ["import toy.fit"]})
    path.write_text(json.dumps(notebook))
    monkeypatch.syspath_prepend(str(tmp_path))
    edits = ["value = 22\n", "value = 1\n"]

    def execute(order, step, folder, inputs):
        folder.mkdir(parents=True)
        Step(step, folder, {}, Store(settings.data_store)).record_value("seen", code.read_text())
        for kind in ("ipynb", "html"):
            (folder / f"{step}.{kind}").touch()
        if edits:
            code.write_text(edits.pop(0))

    order = replace(make_order(settings, "iris", steps=("prepare",)), execute=execute,
                    settings=replace(settings, package="toy"))
    assert [next(run_steps(order, {})).status for _ in range(4)] == ["ran", "ran", "ran", "cached"]
    assert explain_steps(order)[0].because == ()
    code.write_text("value = 22\n")
    assert explain_steps(order)[0].because == ("project: toy.fit changed",), "what ran then may have been another"
