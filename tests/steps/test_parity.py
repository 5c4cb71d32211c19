"""Every implementation of a delivered release is asked the same, and one that is broken is caught by name."""

import json

import pytest

pytestmark = pytest.mark.slow


def read_statuses(told):
    return {one["name"]: one["status"] for one in told["parity"]["implementations"]}


def test_all_that_answer_for_a_release_agree(shared_workbench):
    assert shared_workbench.call_json("release", "iris")["promoted"]
    told = shared_workbench.call_json("parity", "iris", "--rows", "40")
    assert (told["release"], told["agrees"], told["absent"]) == (1, True, {})
    assert read_statuses(told) == dict.fromkeys(
        ("module", "ONNX", "REST", "batch", "stream", "notebook", "Spark"), "agree")
    assert (told["source"], told["parity"]["sampled"]) == ("its holdout", 40)
    code, out, _ = shared_workbench.call("parity", "iris", "--rows", "5", "--format", "json")
    assert (code, json.loads(out)["agrees"]) == (0, True)
    assert not (shared_workbench.folder / ".cd4ml/predictions").exists(), "production was not asked"


def test_a_form_that_was_made_of_another_model_is_caught_by_the_gate_and_by_the_command(shared_workbench):
    def spoil(notebook):
        for cell in notebook["cells"]:
            other = "train_model(task, rows.assign(petal_width=-rows['petal_width']), params)"
            text = "".join(cell["source"])
            cell["source"] = text.replace(
                "try_export(model, rows[list(task.features)]", "try_export(OTHER, rows[list(task.features)]").replace(
                "OTHER", other)

    shared_workbench.edit_notebook("train", spoil)
    outcome = shared_workbench.call_json("release", "iris", code=1)
    assert (outcome["decision"], outcome["promoted"]) == ("fail", False)
    told = shared_workbench.call_json("parity", "iris", "--release", "2", code=1)
    original = dict.fromkeys(("module", "notebook", "Spark"), "agree")
    spoiled = dict.fromkeys(("ONNX", "batch", "stream"), "parts")
    assert read_statuses(told) | {"REST": ""} == original | spoiled | {"REST": ""}
    parting = next(one["parting"] for one in told["parity"]["implementations"] if one["name"] == "ONNX")
    assert (parting["row"], parting["case"], parting["feature"]) == (0, "real", "petal_width")
    code, out, _ = shared_workbench.call("parity", "iris", "--release", "2", "--rows", "5")
    assert code == 1
    assert "ONNX first parts on row 0 (real), feature petal_width" in out


def test_what_does_not_exist_ends_with_two(shared_workbench):
    assert "no release 9" in shared_workbench.call_json("parity", "iris", "--release", "9", code=2)["what"]
    assert "Unknown problem" in shared_workbench.call_json("parity", "irsi", code=2)["what"]
    assert "No release of 'houses' serves" in shared_workbench.call_json("parity", "houses", code=2)["what"]
