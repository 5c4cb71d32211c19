"""Nothing unchanged runs twice: each ingredient is changed in turn, and exactly the steps that it concerns run."""

import datetime as dt
import os
import shutil
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from waiting import wait_until

from cd4ml.base.errors import StepError
from cd4ml.base.settings import load_settings
from cd4ml.delivery.ledger import Use
from cd4ml.delivery.release import watch_champion
from cd4ml.delivery.results import read_record
from cd4ml.delivery.runs import run_delivery
from cd4ml.delivery.steps import STEPS, StepStopped, explain_steps, make_order, run_steps, watch_holdout

pytestmark = pytest.mark.slow

ALL, NONE = STEPS, ()


class Bench:
    """Run iris in a workbench within this process, whose warm parent of notebooks all tests share."""

    def __init__(self, workbench):
        self.workbench, self.folder = workbench, workbench.folder

    def order(self, *overrides, **changes):
        order = make_order(load_settings(self.folder, environ={}), "iris", overrides=overrides)
        return watch_holdout(replace(order, **changes), Use("", "", "2026-01-02T03:04:05+00:00", "ada"))

    def run(self, *overrides, **changes):
        """Return the names of the steps that ran."""
        return tuple(step.name for step in run_steps(self.order(*overrides, **changes), {}) if step.status == "ran")

    def explain(self, *overrides):
        """Return the first step that would run with the reasons, if there is one."""
        found = [one for one in explain_steps(self.order(*overrides)) if one.would_run]
        return f"{found[0].step}: {'; '.join(found[0].because)}" if found else ""

    def deliver(self, *overrides, **changes):
        """Return the whole run, with its pages."""
        return run_delivery(watch_champion(self.order(*overrides, **changes)), dt.datetime.now(dt.UTC))


@pytest.fixture(scope="module")
def finished(shared_workbench, tmp_path_factory):
    """Return a finished delivery of iris, and the copy from which it is restored."""
    bench = Bench(shared_workbench)
    assert {step.status for step in bench.deliver().steps} == {"ran"}
    return bench, shutil.copytree(bench.folder, tmp_path_factory.mktemp("pristine") / "copy")


@pytest.fixture
def bench(finished):
    """Return a workbench in which nothing changed since its delivery."""
    bench, pristine = finished
    for name in ("nbs", "params", ".cd4ml/steps", ".cd4ml/runs"):
        shutil.rmtree(bench.folder / name)
    shutil.copytree(pristine, bench.folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("mlflow.*"))  # it is open
    return bench


def add_code(step, line):
    def change(bench):
        bench.workbench.edit_notebook(step, lambda notebook: notebook["cells"][-1]["source"].append(f"\n{line}"))

    return change


def add_words(step):
    def change(bench):
        cell = {"cell_type": "markdown", "id": "words", "metadata": {}, "source": [f"New words on {step}."]}
        bench.workbench.edit_notebook(step, lambda notebook: notebook["cells"].insert(1, cell))

    return change


def set_outputs(step):
    def fill(notebook):
        notebook["metadata"]["author"] = "ada"
        for cell in notebook["cells"]:
            cell["metadata"]["collapsed"] = True
            if cell["cell_type"] == "code":
                cell |= {"execution_count": 7, "outputs": [{"output_type": "stream", "name": "stdout", "text": ["x"]}]}

    return lambda bench: bench.workbench.edit_notebook(step, fill)


def edit(name, old, new):
    def change(bench):
        text = (bench.folder / name).read_text()
        assert old in text, f"{old!r} is not in {name}"
        (bench.folder / name).write_text(text.replace(old, new))

    return change


def give(*overrides):
    return lambda bench: overrides


YAML = "params/iris/default.yaml"
RULE = "evaluate.rules=[{metric: accuracy, at_least: 0.7}]"
SHARE = "prepare: params: holdout_share 0.4 → 0.5"
CHANGES = {
    "nothing": (give(), NONE, ""),
    # the code of a notebook: what comes after it runs only if it leaves something else
    "code of prepare, same rows": (add_code("prepare", "len(rows)"), ("prepare",),
                                   "prepare: notebook: code cell 7 changed"),
    "code of train, same model": (add_code("train", "len(rows)"), ("train",), "train: notebook: code cell 5 changed"),
    "code of evaluate": (add_code("evaluate", "len(names)"), ("evaluate",),
                         "evaluate: notebook: code cell 12 changed"),
    "code of prepare, other rows": (edit("nbs/steps/prepare.ipynb", ", split.train)", ", split.train[1:])"), ALL,
                                    "prepare: notebook: code cell 7 changed"),
    "code of train, other model": (edit("nbs/steps/train.ipynb", "task, rows, params", "task, rows[1:], params"),
                                   ("train", "evaluate"), "train: notebook: code cell 3 changed"),
    # what is no code
    **{f"a comment in {step}": (add_code(step, "# as above"), NONE, "") for step in STEPS},
    **{f"words of {step}": (add_words(step), NONE, "") for step in STEPS},
    **{f"outputs and metadata of {step}": (set_outputs(step), NONE, "") for step in STEPS},
    # parameters, in the file and on the command line
    "file: prepare": (edit(YAML, "share: 0.4", "share: 0.5"), ALL, SHARE),
    "file: train": (edit(YAML, "C: 1.0", "C: 2.0"), ("train", "evaluate"), "train: params: C 1.0 → 2.0"),
    "file: evaluate": (edit(YAML, "evaluate:\n", "evaluate:\n  resamples: 500\n"), ("evaluate",),
                       "evaluate: params: resamples 1000 → 500"),
    "file: the same value in other words": (edit(YAML, "C: 1.0", "C: 1.000  # weak"), NONE, ""),
    "-p prepare": (give("prepare.holdout_share=0.5"), ALL, SHARE),
    "-p train": (give("train.max_iter=300"), ("train", "evaluate"), "train: params: max_iter 200 → 300"),
    "-p evaluate": (give("evaluate.confidence=0.9"), ("evaluate",), "evaluate: params: confidence 0.95 → 0.9"),
    "-p with the value that it has": (give("train.C=1.0"), NONE, ""),
    "a rule of the gate": (give(RULE), ("evaluate",), "evaluate: params: rules [{'metric': 'accuracy'"),
    # each step has a seed of its own
    "seed of prepare": (give("prepare.seed=7"), ALL, "prepare: seed: 2013 → 7"),
    "seed of train": (give("train.seed=7"), ("train", "evaluate"), "train: seed: 2013 → 7"),
    "seed of evaluate": (give("evaluate.seed=7"), ("evaluate",), "evaluate: seed: 2013 → 7"),
    # the rest of the workbench
    "the lock": (edit("requirements.lock", "scikit-learn==", "#\nscikit-learn=="), ALL,
                 "prepare: environment: requirements.lock changed"),
    "another problem's parameters": (edit("params/houses/default.yaml", "\n", "\n# aside\n"), NONE, ""),
    "a notebook of another command": (add_code("monitor", "1 + 1"), NONE, ""),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_runs_exactly_the_steps_that_it_concerns(bench, name):
    change, expected, because = CHANGES[name]
    overrides = change(bench) or ()
    explained = bench.explain(*overrides)
    assert explained.startswith(because) if because else not explained
    assert bench.run(*overrides) == expected
    assert bench.run(*overrides) == NONE, "and never again"
    assert bench.explain(*overrides) == ""


def test_force_runs_all_and_what_it_leaves_is_a_hit(bench):
    assert bench.run(force=True) == ALL
    assert bench.run() == NONE


def test_pages_show_new_words_though_nothing_ran(bench):
    for step in STEPS:
        add_words(step)(bench)
    run = bench.deliver()
    assert {step.status for step in run.steps} == {"cached"}
    for step in STEPS:
        page = Path(run.report).with_name(f"{step}.html").read_text()
        assert f"New words on {step}." in page
    assert "accuracy" in page, "the outputs are those of the run that it repeats"
    assert bench.deliver().run_id == run.run_id


@pytest.mark.parametrize("lost", ["", "evaluate.html", "train.html", "prepare.ipynb"])
def test_a_hit_restores_the_pages_of_a_run(bench, lost):
    run = bench.deliver()
    before = Path(run.report).parent
    kept = {path.name: path.read_bytes() for path in before.iterdir() if path.suffix in (".html", ".ipynb")}
    assert len(kept) == 2 * len(STEPS)
    (before / lost).unlink() if lost else shutil.rmtree(before)
    again = bench.deliver()
    assert {step.status for step in again.steps} == {"cached"}
    after = Path(again.report).parent
    assert {name: (after / name).read_bytes() for name in kept} == kept
    assert not lost or again.mlflow_run == run.mlflow_run, "what MLflow has it need not be told again"


@pytest.mark.parametrize(("step", "lost"), [
    ("train", "model.skops"), ("train", "train.ipynb"), ("prepare", "prepare.html"), ("prepare", "results.json"),
    ("evaluate", "plot_headline.svg"),
])
def test_a_step_that_lost_a_file_is_no_hit(bench, step, lost):
    folder = next(Path(one.folder) for one in run_steps(bench.order(), {}) if one.name == step)
    (folder / lost).unlink()
    assert bench.explain() == f"{step}: what it left is gone, or --force"
    assert bench.run() == (step,)
    assert (folder / lost).is_file()


def wait_for_flag(bench):
    """Let the train notebook wait for a file that is no ingredient, and fail if it says no."""
    flag = bench.folder / "flag"
    flag.unlink(missing_ok=True)
    lines = ["import time", "from pathlib import Path", f"flag = Path({str(flag)!r})",
             "while not flag.exists():", "    time.sleep(0.02)", "assert flag.read_text() != 'no', 'not now'"]
    add_code("train", "\n".join(lines))(bench)
    return flag


def is_training(bench):
    return any((path / "model.skops").is_file() for path in (bench.folder / ".cd4ml/steps").glob("*.draft"))


def test_a_step_that_failed_is_no_hit(bench):
    flag = wait_for_flag(bench)
    flag.write_text("no")
    for _ in range(2):
        with pytest.raises(StepStopped) as caught:
            bench.run()
        assert isinstance(caught.value.__cause__, StepError)
        assert (caught.value.step.name, caught.value.step.status) == ("train", "failed")
    flag.write_text("yes")
    assert bench.run() == ("train",), "with the same key, and with the same model for what follows"


def test_a_step_that_was_interrupted_is_no_hit(bench):
    flag, stop = wait_for_flag(bench), threading.Event()

    def interrupt():
        wait_until(lambda: is_training(bench), "the training")
        stop.set()

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(StepStopped) as caught:
        bench.run(stop=stop)
    thread.join()
    assert isinstance(caught.value.__cause__, KeyboardInterrupt)
    flag.touch()
    assert bench.run() == ("train",)


def test_ctrl_c_when_a_step_has_just_ended_is_no_failure_to_mlflow(bench):
    def interrupt(step, status, seconds):
        if status == "ran":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench.deliver("train.C=0.7", report_progress=interrupt)
    assert bench.workbench.find_runs("iris")[0].info.status == "KILLED"
    assert bench.run("train.C=0.7") == ("evaluate",)


def test_when_the_one_that_runs_a_step_is_killed_the_one_that_waits_for_it_runs_it(bench):
    flag = wait_for_flag(bench)
    first = bench.workbench.start("run", "iris")
    wait_until(lambda: is_training(bench), "the training")
    ran = []
    second = threading.Thread(target=lambda: ran.extend(bench.run()))
    second.start()
    time.sleep(0.5)
    assert len(list((bench.folder / ".cd4ml/steps").glob("*.draft"))) == 1, "the second waits"
    first.send_signal(signal.SIGKILL)
    first.communicate(timeout=60)
    flag.touch()
    second.join(60)
    assert ran == ["train"]
    assert bench.run() == NONE


def test_doctor_says_how_large_the_cache_is_and_cleans_by_age(bench):
    other = [*run_steps(bench.order("train.C=3.0"), {})][1:]
    for step in (other[0], *run_steps(bench.order(), {})):
        month_ago = time.time() - 31 * 86400
        os.utime(Path(step.folder) / "ingredients.json", (month_ago, month_ago))
    found = bench.workbench.call_json("doctor", "--clean", "30")["findings"]
    findings = {one["subject"]: one["finding"] for one in found}
    assert findings["cleaning"].startswith("1 steps, 0 drafts and 0 environments removed")
    assert findings["cache"].startswith("4 finished steps; steps ")
    assert not Path(other[0].folder).exists()
    assert bench.run() == NONE, "what the last run needs is kept, however old"
    assert bench.run("train.C=3.0") == ("train",), "what was of use within those days is kept"
    assert read_record(Path(other[0].folder))
