"""Which run is meant, what of it has to be there, and beside whom it is judged."""

import datetime as dt
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from cd4ml.base.errors import ParameterError, StepError
from cd4ml.base.fingerprint import hash_bytes
from cd4ml.base.store import Store
from cd4ml.delivery.history import Event, add_event, find_champion
from cd4ml.delivery.judging import find_run, judge_run
from cd4ml.delivery.manifest import Release
from cd4ml.delivery.provenance import Provenance
from cd4ml.delivery.record import Run, StepRun, write_run
from cd4ml.delivery.release import find_rival
from cd4ml.delivery.results import Result
from cd4ml.delivery.steps import make_order

NOW = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
NAMES = ("prepare", "train", "evaluate")


def keep_run(settings, run_id, failed="", variant="default"):
    """Keep a run that stopped in the step `failed`, if there is one."""
    names = NAMES[:NAMES.index(failed) + 1] if failed else NAMES
    steps = tuple(StepRun(name, "failed" if name == failed else "ran", 0.1, f"key-{name}", "") for name in names)
    run = Run(run_id, "iris", variant, "", 0.0, steps, {}, Provenance("", False, "", "3.11", "ada", ""))
    write_run(Path(settings.run_store) / "runs/iris" / run_id, run)
    return run


def test_without_a_run_the_first_one_is_asked_for(settings):
    for wanted in ("", "2026"):
        with pytest.raises(StepError, match=r"There is no run of 'iris' yet.*cd4ml run iris"):
            find_run(settings, "iris", wanted)


def test_the_latest_run_with_a_model_is_meant(settings):
    for run_id, failed in (("20260101-a", ""), ("20260102-b", "evaluate"), ("20260103-c", "train")):
        keep_run(settings, run_id, failed)
    assert find_run(settings, "iris").run_id == "20260102-b", "what failed in its evaluation can be judged again"
    assert find_run(settings, "iris", "20260101").run_id == "20260101-a"
    with pytest.raises(StepError, match=r"'20260103-c' has no model.*stopped in step 'train'.*cd4ml run iris"):
        find_run(settings, "iris", "20260103")


def test_a_whole_id_is_meant_even_if_another_begins_with_it(settings):
    keep_run(settings, "20260101-a"), keep_run(settings, "20260101-ab")
    assert find_run(settings, "iris", "20260101-a").run_id == "20260101-a"
    with pytest.raises(StepError, match=r"2 runs of 'iris' begin with '2026'.*20260101-a, 20260101-ab"):
        find_run(settings, "iris", "2026")


def test_only_runs_without_a_model_are_not_enough(settings):
    keep_run(settings, "20260103-c", "prepare")
    with pytest.raises(StepError, match="No run of 'iris' has a model"):
        find_run(settings, "iris")


def test_an_unknown_run_names_the_nearest(settings):
    keep_run(settings, "20260101-030405-a1b2")
    with pytest.raises(StepError, match="Did you mean '20260101-030405-a1b2'"):
        find_run(settings, "iris", "20260101-030405-a1b3")


def test_a_run_whose_files_are_gone_says_so_and_what_to_do(settings):
    run = keep_run(settings, "20260101-a", variant="firm")
    with pytest.raises(StepError, match=r"What prepare and train of run 20260101-a left is gone") as caught:
        judge_run(make_order(settings, "iris"), run, NOW)
    assert "cd4ml run iris --params firm" in caught.value.fix


def test_parameters_of_steps_that_are_not_executed_are_refused(settings):
    run = keep_run(settings, "20260101-a")
    order = make_order(settings, "iris", overrides=["train.C=2.0", "evaluate.confidence=0.9", "prepare.seed=1"])
    with pytest.raises(ParameterError, match="Only the evaluation") as caught:
        judge_run(order, run, NOW)
    assert caught.value.where == "-p prepare.seed=1, -p train.C=2.0"


def keep_release(store, version, model, against):
    files = {"model/model.skops": model.encode(), "profile.json": b"{}"}
    release = Release("iris", version, "2026-01-02", "multiclass", "species", (), (), {}, {"holdout": "h"}, against,
                      {path: hash_bytes(data) for path, data in files.items()})
    for path, data in files.items():
        store.write(f"iris/{version}/{path}", data)
    store.write(f"iris/{version}/manifest.json", release.to_json())


def test_the_rival_is_the_champion_of_today(settings):
    store = Store(settings.release_store)

    def ask(model):
        results = {"model": Result("model", "model", hash_bytes(model.encode())),
                   "holdout": Result("holdout", "frame", "h")}
        rival = find_rival(store, "iris", results, find_champion(store, "iris"))
        return rival and rival.about["release"]

    assert ask("m1") is None
    for version, against in ((1, None), (2, 1), (3, 1)):
        keep_release(store, version, f"m{version}", against)
    for version in (1, 3):
        add_event(store, "iris", lambda number, old, version=version: Event(number, "promote", version, old, "", "", "",
                                                                            "local"))
    assert ask("new") == 3
    assert ask("m2") == 3, "whatever it was judged against when it was released"
    assert ask("m3") == 1, "the champion is not held against itself"


@pytest.mark.slow
def test_a_lost_model_or_lost_rows_are_noticed_before_anything_runs(settings):
    from cd4ml.delivery.runs import run_delivery

    order = make_order(settings, "iris")
    run = run_delivery(order, NOW)
    assert judge_run(order, run, NOW).evaluation.status == "cached"
    moved = replace(run, steps=tuple(replace(step, folder="/nowhere") for step in run.steps))
    assert judge_run(order, moved, NOW).evaluation.status == "cached", "a workbench may have moved"
    (Path(run.steps[1].folder) / "model.skops").unlink()
    with pytest.raises(StepError, match="What train of run"):
        judge_run(order, run, NOW)
    shutil.rmtree(settings.data_store)
    with pytest.raises(StepError, match="What prepare and train of run"):
        judge_run(order, run, NOW)
