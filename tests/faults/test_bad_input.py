"""What a user can get wrong, and what a machine can do to a run: a clear end, and nothing lost."""

import json
import resource
import signal
from pathlib import Path

import pytest
from waiting import wait_until

pytestmark = pytest.mark.slow


def test_a_misspelt_parameter_is_named_with_its_line_before_anything_runs(workbench):
    (workbench.folder / "params/iris/default.yaml").write_text("train:\n  C: 1.0\n  sead: 1\n")
    code, out, err = workbench.call("run", "iris")
    assert (code, out) == (2, "")
    assert "Unknown parameter 'sead' for step 'train' (params/iris/default.yaml:3). Did you mean 'seed'?" in err
    assert not (workbench.folder / ".cd4ml/steps").exists()


def test_wrong_types_and_ranges_are_said_at_once(workbench):
    error = workbench.call_json("run", "iris", "-p", "train.C=-1", "-p", "train.max_iter='many'", code=2)
    assert error["error"] == "ParameterError"
    assert "-p train.C=-1" in error["what"]
    assert "-p train.max_iter='many'" in error["what"]


@pytest.mark.parametrize(("words", "hint"), [
    (("run", "irsi"), "Did you mean 'iris'?"),
    (("run", "iris", "--params", "defualt"), "Did you mean 'default'?"),
    (("data", "show", "irsi"), "Did you mean 'iris'?"),
    (("run", "iris", "-p", "max_iter=3"), "step.name=value"),
    (("run", "iris", "-p", "evaluate.rules=[{metric: acuracy, at_least: 0.5}]"), "accuracy"),
])
def test_a_wrong_name_gets_the_nearest_known_one(workbench, words, hint):
    code, out, err = workbench.call(*words)
    assert (code, out) == (2, "")
    assert hint in err
    assert "Traceback" not in err


def test_outside_a_workbench_every_command_says_so(workbench, tmp_path_factory):
    workbench.folder = tmp_path_factory.mktemp("elsewhere")
    code, _, err = workbench.call("releases", "iris")
    assert code == 2
    assert "not part of a workbench" in err


def test_a_step_that_raises_keeps_its_notebook_with_the_cell_marked(workbench):
    def break_third_code_cell(notebook):
        notebook["cells"].insert(3, {"cell_type": "code", "id": "broken", "metadata": {}, "outputs": [],
                                     "execution_count": None, "source": ["raise ValueError('no such month')"]})

    workbench.edit_notebook("train", break_third_code_cell)
    error = workbench.call_json("run", "iris", code=2)
    assert error["got"] == "ValueError: no such month"
    assert [step["status"] for step in error["steps"]] == ["ran", "failed"]
    page = Path(error["report"]).read_text()
    assert "cell failed" in page
    assert "no such month" in page
    assert workbench.find_runs("iris")[0].info.status == "FAILED"
    assert not list((workbench.folder / ".cd4ml/steps").glob("*.draft"))

    workbench.edit_notebook("train", lambda notebook: notebook["cells"].pop(3))
    run = workbench.call_json("run", "iris")
    assert {step["name"]: step["status"] for step in run["steps"]}["prepare"] == "cached"


@pytest.mark.parametrize("kill", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "kill -9"])
def test_an_interrupted_run_leaves_nothing_that_a_next_one_trips_over(workbench, kill):
    process = workbench.start("run", "iris")
    wait_until(lambda: list(workbench.folder.glob(".cd4ml/steps/*.draft/*.ipynb")), "a draft")
    process.send_signal(kill)
    _, err = process.communicate(timeout=120)
    if kill == signal.SIGINT:
        assert process.returncode == 130
        assert "Interrupted" in err
        assert "Traceback" not in err
        assert workbench.find_runs("iris")[0].info.status == "KILLED"
    finished = [one.parent for one in workbench.folder.glob(".cd4ml/steps/*/ingredients.json") if not one.parent.suffix]
    assert len(finished) < 3, "it was not interrupted"
    run = workbench.call_json("run", "iris")  # a step that had ended just before the kill is kept
    assert [step["status"] for step in run["steps"]] == (["cached"] * len(finished) + ["ran"] * 3)[:3]


def test_a_full_disk_is_said_and_the_next_run_goes_on(workbench):
    def fill_disk():  # every write beyond this size fails, as it would on a full disk
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (6000, resource.RLIM_INFINITY))

    workbench.environ["PYTHONDONTWRITEBYTECODE"] = "1"  # Python does not notice that it wrote half a file of its own
    code, _, err = workbench.call("run", "iris", preexec_fn=fill_disk)
    assert code == 2
    assert "Traceback" not in err
    assert "error: " in err
    assert workbench.call_json("run", "iris")["metrics"]["accuracy"]["value"] > 0.8


def test_two_runs_of_the_same_at_once_do_each_step_once(workbench):
    processes = [workbench.start("run", "iris", "--json") for _ in range(2)]
    runs = [json.loads(process.communicate(timeout=300)[0]) for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    statuses = [{step["name"]: step["status"] for step in run["steps"]} for run in runs]
    for step in ("prepare", "train", "evaluate"):
        assert sorted(one[step] for one in statuses) == ["cached", "ran"]
