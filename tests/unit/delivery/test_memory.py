"""When a remembered answer counts, and when it must not: whatever was touched, lost, damaged or too young."""

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from cd4ml.base.store import Store
from cd4ml.delivery.memory import TICK, Question, recall_run, remember_run
from cd4ml.delivery.provenance import Provenance
from cd4ml.delivery.record import Run, StepRun, list_pages, write_run
from cd4ml.delivery.results import Step

IRIS = Question("iris", "default")


def age_files(folder):
    """Wait until what was just written is old enough to be told from what comes after it."""
    newest = max(os.stat(path).st_ctime_ns for path in folder.rglob("*"))
    while time.time_ns() - newest <= 2 * TICK:
        time.sleep(TICK / 1e9)


@pytest.fixture
def settings(settings):
    """Return the settings of a workbench of one's own, with a dataset beside it."""
    (settings.root / "data.csv").write_text("a,b\n1,2\n")
    age_files(settings.root)
    return settings


@pytest.fixture
def run(settings):
    """Return a finished run of one step, with its files."""
    folder = Path(settings.run_store) / "steps" / "3f2a"
    folder.mkdir(parents=True)
    step = Step("train", folder, {}, Store(settings.data_store))
    step.record_file("model", b"weights", ".skops")
    (folder / "ingredients.json").write_text("{}")
    where = Path(settings.run_store) / "runs/iris/20260102-030405-ab12"
    made = Run(where.name, "iris", "default", "2026-01-02T03:04:05+00:00", 1.5,
               (StepRun("train", "ran", 1.5, "3f2a", str(folder)),), {}, Provenance("", False, "", "", "", ""),
               report=str(where / "train.html"))
    write_run(where, made)
    for page in list_pages(made):
        page.write_text("a page")
    return made


def remember(settings, run, began=None):
    remember_run(settings, IRIS, run, [settings.root / "data.csv"], began or time.time_ns())


def test_the_answer_is_the_run_with_steps_that_did_not_run(settings, run):
    assert recall_run(settings, IRIS) is None
    remember(settings, run)
    step = replace(run.steps[0], status="cached", seconds=0.0)
    assert recall_run(settings, IRIS) == replace(run, steps=(step,))


@pytest.mark.parametrize("question", [Question("iris", "firm"), Question("houses", "default"),
                                      Question("iris", "default", ("train.C=2",))])
def test_another_question_has_no_answer(settings, run, question):
    remember(settings, run)
    assert recall_run(settings, question) is None


@pytest.mark.parametrize("name", ["CD4ML_ENV", "PYTHONPATH"])
def test_another_environment_has_no_answer(settings, run, monkeypatch, name):
    remember(settings, run)
    monkeypatch.setenv(name, "elsewhere")
    assert recall_run(settings, IRIS) is None


@pytest.mark.parametrize("name", ["data.csv", "requirements.lock", "pyproject.toml", "settings.ini",
                                  "params/iris/default.yaml", "nbs/steps/train.ipynb"])
def test_a_stamp_that_lies_is_seen(settings, run, name):
    remember(settings, run)
    path = settings.root / name
    before, text = os.stat(path), path.read_bytes()
    with open(path, "r+b") as file:  # in place: the same inode, the same size, and both times set back
        file.write(text[:1].swapcase())
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = os.stat(path)
    assert (after.st_size, after.st_ino, after.st_mtime_ns) == (before.st_size, before.st_ino, before.st_mtime_ns)
    assert recall_run(settings, IRIS) is None


def replace_file(path):
    path.with_suffix(".new").write_bytes(path.read_bytes())
    os.replace(path.with_suffix(".new"), path)


@pytest.mark.parametrize("change", [
    lambda root: (root / "data.csv").unlink(),
    lambda root: replace_file(root / "data.csv"),
    lambda root: (root / "params/iris/firm.yaml").write_text("extends: default\n"),
    lambda root: (root / "nbs/steps/another.ipynb").write_text("{}"),
], ids=["gone", "replaced by the same", "new parameters", "new notebook"])
def test_a_file_that_is_gone_replaced_or_new_is_seen(settings, run, change):
    remember(settings, run)
    change(settings.root)
    assert recall_run(settings, IRIS) is None


def test_a_new_release_is_seen(settings, run):
    remember(settings, run)
    history = Path(settings.release_store) / "iris/history"
    history.mkdir(parents=True)
    (history / "0001.json").write_text("{}")
    assert recall_run(settings, IRIS) is None


def test_what_was_touched_while_it_ran_is_not_remembered(settings, run):
    began = time.time_ns()
    notebook = settings.notebooks / "train.ipynb"
    notebook.write_text(notebook.read_text() + " ")
    age_files(settings.root)
    remember(settings, run, began)
    assert recall_run(settings, IRIS) is None
    remember(settings, run)
    assert recall_run(settings, IRIS) is not None, "the next run, which began after that, is remembered"


def test_what_was_touched_within_a_tick_is_not_remembered(settings, run):
    data = settings.root / "data.csv"
    data.write_text("a,b\n3,4\n")
    remember(settings, run, began=os.stat(data).st_ctime_ns + TICK // 2)
    assert recall_run(settings, IRIS) is None


@pytest.mark.parametrize("lost", ["train.html", "train.ipynb", "run.json", "model.skops", "results.json",
                                  "ingredients.json"])
def test_an_answer_that_lost_a_file_is_none(settings, run, lost):
    remember(settings, run)
    places = [Path(run.report).with_name(lost), Path(run.steps[0].folder) / lost]
    next(path for path in places if path.is_file()).unlink()
    assert recall_run(settings, IRIS) is None


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"format": 1}', '{"stamps": {}, "needed": [], "run": 3}'])
def test_a_damaged_memory_is_no_answer(settings, run, text):
    remember(settings, run)
    place = IRIS.find_place(settings, os.environ)
    assert json.loads(place.read_text())["run"] == run.run_id
    place.write_text(text)
    assert recall_run(settings, IRIS) is None


def test_what_lies_elsewhere_has_no_stamps_and_is_not_remembered(settings, run):
    remember(replace(settings, data_store="s3://bucket/data"), run)
    assert not (Path(settings.run_store) / "memory").exists()
