"""Each guide does for real what it tells, in a copy of the workbench, and shows what its stored outputs show."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

GUIDES = sorted(path.name for path in (Path(__file__).parents[2] / "nbs" / "guide").glob("*.ipynb"))
Execute = Callable[..., tuple[nbformat.NotebookNode, dict[str, Any]]]


def list_texts(notebook: nbformat.NotebookNode) -> list[str]:
    """Return what the cells print; tables and pictures are left to the assertions in the guide and to the tests."""
    return ["".join(output.text for output in cell.outputs if output.get("name") == "stdout")
            for cell in notebook.cells if cell.cell_type == "code"]


@pytest.fixture
def workbench(root: Path, tmp_path: Path) -> Path:
    """Return a copy of the workbench without its releases, runs and environment."""
    copy = tmp_path / "workbench"
    copy.mkdir()
    for name in ("settings.ini", "pyproject.toml", "requirements.lock"):
        shutil.copy(root / name, copy)
    for name in ("nbs/steps", "nbs/guide", "params"):
        shutil.copytree(root / name, copy / name)
    return copy


@pytest.fixture
def execute(workbench: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Execute:
    """Return a function that executes a guide, and gives it back with the values of some expressions at its end."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # threads of several tests at once would only wait for one another

    def execute_guide(name: str, **facts: str) -> tuple[nbformat.NotebookNode, dict[str, Any]]:
        path = workbench / "nbs" / "guide" / name
        notebook = nbformat.read(path, 4)
        wanted = ", ".join(f"{key!r}: {expression}" for key, expression in facts.items())
        notebook.cells.append(nbformat.v4.new_code_cell(f"import json\nprint(json.dumps({{{wanted}}}))"))
        NotebookClient(notebook, timeout=300, kernel_name="python3",
                       resources={"metadata": {"path": str(path.parent)}}).execute()
        assert list_texts(notebook)[:-1] == list_texts(nbformat.read(path, 4)), "execute the guide again and save it"
        return notebook, json.loads(list_texts(notebook)[-1])

    return execute_guide


@pytest.mark.slow
def test_plumbing_delivers_promotes_and_goes_back(execute: Execute, workbench: Path, tmp_path: Path) -> None:
    _, facts = execute("1_plumbing.ipynb", decision="first.decision", metrics="first.run.metrics",
                       steps="[[step.status for step in one.run.steps] for one in (first, again, second)]",
                       champion="[(event.action, event.version) for event in history]")
    assert facts["decision"] == "pass"
    assert facts["metrics"]["accuracy"]["low"] > 0.8
    assert facts["steps"] == [["ran", "ran", "ran"], ["cached", "cached", "cached"], ["cached", "ran", "ran"]]
    assert facts["champion"] == [["promote", 1], ["promote", 2], ["rollback", 1]]
    assert sorted(path.name for path in workbench.iterdir()) == ["nbs", "params", "pyproject.toml", "requirements.lock",
                                                                 "settings.ini"], "it stays in its playground"
    assert not list((tmp_path / "temporary").glob("cd4ml-guide-*")), "it tidies up"


@pytest.mark.slow
def test_test_driven_finds_a_small_gain_in_july_and_no_proof_later(execute: Execute, tmp_path: Path) -> None:
    _, facts = execute("2_test_driven.ipynb", gains="{name: one.to_dict() for name, one in gains.items()}",
                       module="module", is_green="is_green")
    gains = facts["gains"]
    assert 0 < gains["July"]["low"] < gains["July"]["value"] < 0.01
    assert gains["August"]["low"] < 0.001
    assert gains["September"]["low"] < 0 < gains["September"]["high"]
    assert facts["is_green"]
    compile(facts["module"], "traffic.py", "exec")
    assert "def count_departures" in facts["module"]
    assert "test_" not in facts["module"]
    assert not list((tmp_path / "temporary").glob("cd4ml-guide-*"))


@pytest.mark.slow
def test_ml_engineering_keeps_what_helps_and_promotes_no_more_than_it_shows(execute: Execute, tmp_path: Path) -> None:
    _, facts = execute("3_ml_engineering.ipynb", journey="{name: one.to_dict() for name, one in journey.items()}",
                       best="best", names="[one.name for one in selection.ranking]", decision="second.run.decision",
                       corrected="selection.corrected.to_dict()", top="selection.best.interval.to_dict()")
    gains = facts["journey"]
    assert gains["ten times the trees"]["low"] > 0
    assert gains["twice as many again"]["high"] < 0
    assert gains["no small leaves"]["low"] < 0 < gains["no small leaves"]["high"]
    assert facts["best"] == {"train.max_iter": 100, "train.max_leaf_nodes": 10, "train.learning_rate": 0.1}
    assert sorted(facts["names"]) == sorted(f"max_leaf_nodes={leaves} learning_rate={rate}"
                                            for leaves in (5, 10) for rate in (0.05, 0.1))
    width = {name: facts[name]["high"] - facts[name]["low"] for name in ("corrected", "top")}
    assert width["corrected"] > width["top"]
    difference = next(one for one in facts["decision"]["results"] if one["rule"].get("margin"))
    assert -difference["rule"]["margin"] < difference["low"] < 0 < difference["high"], "no worse, and not proven better"
    assert not list((tmp_path / "temporary").glob("cd4ml-guide-*"))


@pytest.mark.slow
def test_continuous_deployment_stops_the_worse_calls_the_equal_equal_and_lets_the_better_out(
        execute: Execute, tmp_path: Path) -> None:
    _, facts = execute("4_continuous_deployment.ipynb",
                       history="[(event.action, event.version) for event in history]",
                       decisions="[one.decision for one in (first, worse, equal, better)]", strict="strict.status",
                       gained="gained.to_dict()", failed="[result.rule.label for result in Decision.from_dict("
                       "worse.run.decision).results if result.status == 'fail']",
                       leak="next(iter(found))", uses="[use.variant for use in uses]")
    assert facts["decisions"] == ["pass", "fail", "pass", "pass"]
    assert facts["history"] == [["promote", 1], ["refuse", 2], ["promote", 4]]
    assert "ROC AUC no worse than the champion" in facts["failed"]
    assert facts["strict"] == "inconclusive", "an equal model is not called better"
    assert facts["gained"]["lower"] > 0
    assert facts["leak"] == "taxi_in"
    assert facts["uses"] == ["default", "sabotaged", "equal", "wider"]
    assert not list((tmp_path / "temporary").glob("cd4ml-guide-*"))


@pytest.mark.slow
def test_undo_changes_goes_back_under_a_server_that_answers_and_makes_the_release_again(
        execute: Execute, tmp_path: Path) -> None:
    _, facts = execute("5_undo_changes.ipynb", told="told", statuses="[status for status, _ in answers]",
                       versions="[release for _, release in answers]", decisions="[first.decision, worse.decision]",
                       history="[(event.action, event.version, event.previous) for event in history]",
                       checks="{check.subject: check.status for check in again.checks}")
    assert facts["decisions"] == ["pass", "fail"]
    assert set(facts["statuses"]) == {200}
    assert list(dict.fromkeys(facts["versions"])) == [2, 1]
    assert facts["history"] == [["promote", 1, None], ["promote", 2, 1], ["rollback", 1, 2]]
    assert set(facts["checks"].values()) == {"equal"}
    assert {"model", "predictions", "roc_auc", "decision"} <= set(facts["checks"])
    assert not list((tmp_path / "temporary").glob("cd4ml-guide-*"))


@pytest.mark.parametrize("name", GUIDES)
def test_a_guide_is_short_and_exports_nothing(root: Path, name: str) -> None:
    cells = nbformat.read(root / "nbs" / "guide" / name, 4).cells
    assert cells[0].source.startswith(f"# {name[0]}. ")
    assert len([cell for cell in cells if cell.cell_type == "code"]) <= 15
    assert not [cell.id for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    assert not [cell.id for cell in cells for line in cell.source.splitlines() if line.startswith("#|")]
    assert not [cell.id for cell in cells for output in cell.get("outputs", []) if output.output_type == "error"]


@pytest.mark.parametrize("name", GUIDES)
def test_stored_outputs_tell_nothing_of_the_machine(root: Path, name: str) -> None:
    outputs = [cell.outputs for cell in nbformat.read(root / "nbs" / "guide" / name, 4).cells
               if cell.cell_type == "code"]
    assert outputs
    text = json.dumps(outputs)
    assert not [word for word in ("/tmp", "/home/", "/root/", str(root), " at 0x", os.uname().nodename) if word in text]


@pytest.mark.slow
def test_in_the_wild_sees_that_september_is_not_july_and_makes_a_new_model(execute: Execute, tmp_path: Path) -> None:
    _, facts = execute("6_in_the_wild.ipynb", rows="done.rows", told="done.told", attempt="attempt", drifted="drifted",
                       worth="[one['kind'] for one in worth]")
    assert facts["rows"] == facts["told"] > 10_000
    assert facts["worth"]
    assert facts["attempt"]["state"] == "done"
    assert facts["attempt"]["is_promoted"]
    assert facts["attempt"]["harvest"]["rows"] > 10_000
    assert not list((tmp_path / "temporary").glob("cd4ml-guide-*")), "it tidies up"
