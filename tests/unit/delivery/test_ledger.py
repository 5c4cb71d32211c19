"""The ledger of holdouts: two at once, damaged entries, a store that cannot be written, and its neighbours there."""

import datetime as dt
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from cd4ml.base.errors import ReleaseError, StoreError
from cd4ml.base.store import Store
from cd4ml.delivery.history import find_champion, read_history
from cd4ml.delivery.ledger import (
    HoldoutUse,
    Use,
    count_use,
    find_use,
    list_holdouts,
    list_uses,
    preview_use,
    read_use,
    record_use,
)
from cd4ml.delivery.manifest import Release
from cd4ml.delivery.release import _claim_version, list_releases, verify_release
from cd4ml.delivery.results import Result
from cd4ml.delivery.steps import complete_inputs, explain_steps, make_order, open_step, run_steps, watch_holdout

HOLDOUT = "a" * 64
USE = Use(HOLDOUT, "", "2026-01-02T03:04:05+00:00", "ada", "r1", "default")


def name_model(i):
    return f"{i:016x}" + "0" * 48


def keep_uses(store, *models):
    return [record_use(store, "toy", replace(USE, model=name_model(i))) for i in models]


@pytest.fixture(params=["local", "remote"])
def store(request, tmp_path):
    return Store(str(tmp_path) if request.param == "local" else f"memory://{tmp_path.name}")


def test_models_that_come_at_once_get_a_number_each(tmp_path):
    store = Store(str(tmp_path))
    with ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(lambda i: keep_uses(store, i)[0], range(40)))
    assert sorted(numbers) == list(range(1, 41))
    uses = list_uses(store, "toy", HOLDOUT)
    assert [use.number for use in uses] == sorted(numbers)
    assert keep_uses(store, *range(40)) == numbers, "asked again, each has its number"
    assert len(list_uses(store, "toy", HOLDOUT)) == 40


def test_the_same_model_from_many_sides_at_once_is_one_use(tmp_path):
    store = Store(str(tmp_path))
    with ThreadPoolExecutor(8) as pool:
        numbers = set(pool.map(lambda _: keep_uses(store, 7)[0], range(24)))
    assert len(numbers) == 1
    assert len(list_uses(store, "toy", HOLDOUT)) == 1


def test_an_entry_says_who_when_and_in_which_run(store):
    keep_uses(store, 1)
    assert find_use(store, "toy", HOLDOUT, name_model(1)) == replace(USE, model=name_model(1), number=1)
    path = f"toy/holdouts/{HOLDOUT[:16]}/{name_model(1)[:16]}.json"
    assert json.loads(store.read(path)) == {
        "format": 1, "holdout": HOLDOUT, "model": name_model(1), "at": USE.at, "who": "ada", "run": "r1",
        "variant": "default", "number": 1}


def test_each_holdout_of_each_problem_is_counted_by_itself(store):
    assert keep_uses(store, 1, 2) == [1, 2]
    other = replace(USE, holdout="b" * 64, model=name_model(1))
    assert record_use(store, "toy", other) == 1
    assert record_use(store, "other", other) == 1
    assert list_holdouts(store, "toy") == ["a" * 16, "b" * 16]
    assert list_holdouts(store, "nothing") == list_uses(store, "nothing", HOLDOUT) == []


def test_a_number_that_was_claimed_and_not_used_is_not_given_again(store):
    keep_uses(store, 1)
    store.write(f"toy/holdouts/{HOLDOUT[:16]}/numbers/000002", b"")
    assert preview_use(store, "toy", HOLDOUT, name_model(2)).count == 3
    assert keep_uses(store, 2) == [3]


DAMAGED = {"no JSON": b"{", "no mapping": b"[]", "a later format": json.dumps({"format": 2}).encode(),
           "a field too many": json.dumps({**asdict(replace(USE, model=name_model(1), number=1)), "x": 1}).encode(),
           "another model": json.dumps(asdict(replace(USE, model=name_model(9), number=1))).encode(),
           "no number": json.dumps(asdict(replace(USE, model=name_model(1)))).encode()}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_entry_is_named_and_still_counts(tmp_path, damage):
    store = Store(str(tmp_path))
    keep_uses(store, 1, 2)
    path = f"toy/holdouts/{HOLDOUT[:16]}/{name_model(1)[:16]}.json"
    store.write(path, DAMAGED[damage])
    for ask in (lambda: keep_uses(store, 1), lambda: list_uses(store, "toy", HOLDOUT)):
        with pytest.raises(ReleaseError, match=path) as caught:
            ask()
        assert "Restore it from a copy" in caught.value.fix
    assert keep_uses(store, 2, 3) == [2, 3], "others go on"


def test_all_damaged_entries_are_named_at_once(tmp_path):
    store = Store(str(tmp_path))
    keep_uses(store, 1, 2, 3)
    for i in (1, 3):
        store.write(f"toy/holdouts/{HOLDOUT[:16]}/{name_model(i)[:16]}.json", b"")
    with pytest.raises(ReleaseError, match=rf"2 entries.*{name_model(1)[:16]}.*{name_model(3)[:16]}"):
        list_uses(store, "toy", HOLDOUT)


def test_an_entry_whose_name_only_begins_alike_is_not_taken_for_the_model(tmp_path):
    store = Store(str(tmp_path))
    keep_uses(store, 1)
    with pytest.raises(ReleaseError, match="about another model"):
        find_use(store, "toy", HOLDOUT, name_model(1)[:16] + "f" * 48)


def test_a_store_that_cannot_be_written_leaves_the_use_uncounted_and_says_so(tmp_path, monkeypatch):
    store = Store(str(tmp_path))
    keep_uses(store, 1)

    def refuse(path, data):
        raise StoreError(f"'{path}' cannot be written", got="Read-only file system")

    monkeypatch.setattr(store, "create", refuse)
    with pytest.raises(StoreError, match="Read-only"):
        keep_uses(store, 2)
    told = count_use(store, "toy", replace(USE, model=name_model(2)))
    assert told.count == 2
    assert "it was not counted" in told.fault
    assert "it was not counted" in told._repr_html_()
    assert count_use(store, "toy", replace(USE, model=name_model(1))) == HoldoutUse(1, HOLDOUT, name_model(1))


def test_a_store_that_cannot_be_read_stops_the_delivery(tmp_path, monkeypatch):
    store = Store(str(tmp_path))

    def refuse(path):
        raise StoreError(f"'{path}' cannot be reached")

    monkeypatch.setattr(store, "list", refuse)
    with pytest.raises(StoreError, match="cannot be reached"):
        count_use(store, "toy", replace(USE, model=name_model(1)))


def test_the_ledger_does_not_disturb_the_releases_beside_it(tmp_path):
    store = Store(str(tmp_path))
    release = Release("toy", 1, "2026-01-02T00:00:00+00:00", "binary", "y", (), (),
                      {"decision": {}, "metrics": {}, "steps": []}, {}, None, {})
    keep_uses(store, 1, 2)
    assert list_releases(store, "toy") == read_history(store, "toy") == []
    assert find_champion(store, "toy") is None
    assert _claim_version(store, "toy", dt.datetime(2026, 1, 2, tzinfo=dt.UTC)) == 1
    store.write("toy/1/manifest.json", release.to_json())
    assert list_releases(store, "toy") == [release]
    verify_release(store, release)
    assert _claim_version(store, "toy", dt.datetime(2026, 1, 2, tzinfo=dt.UTC)) == 2


def test_the_step_of_a_run_reads_what_it_was_told(tmp_path, monkeypatch):
    told = HoldoutUse(3, HOLDOUT, name_model(1))
    inputs = [asdict(told.to_result()), asdict(Result("holdout", "frame", HOLDOUT))]
    briefing = {"format": 1, "step": "evaluate", "data_store": str(tmp_path / "data"), "inputs": inputs}
    (tmp_path / "step.json").write_text(json.dumps(briefing))
    monkeypatch.chdir(tmp_path)
    assert read_use(open_step("evaluate", "iris")) == told
    briefing["inputs"][0]["value"]["format"] = 2
    (tmp_path / "step.json").write_text(json.dumps(briefing))
    with pytest.raises(ReleaseError, match="use of the holdout cannot be read"):
        read_use(open_step("evaluate", "iris"))


def test_only_a_signed_order_is_counted_and_an_explanation_is_not(settings):
    order, store = make_order(settings, "iris"), Store(settings.release_store)
    known = {name: Result(name, "file", digest) for name, digest in (("holdout", HOLDOUT), ("model", name_model(1)))}
    assert "holdout_use" not in complete_inputs(order, "evaluate", known), "nobody counted: a rule on it stays open"
    preview = complete_inputs(watch_holdout(order, None), "evaluate", known)
    assert list_holdouts(store, "iris") == []
    signed = watch_holdout(order, Use("", "", USE.at, "ada"))
    assert complete_inputs(signed, "train", known) == known
    assert complete_inputs(signed, "evaluate", known) == preview, "so that an explanation speaks of the same key"
    assert [use.model for use in list_uses(store, "iris", HOLDOUT)] == [name_model(1)]
    explain_steps(signed)
    assert len(list_uses(store, "iris", HOLDOUT)) == 1


@pytest.mark.slow
def test_a_notebook_that_is_run_by_hand_counts_once(settings, monkeypatch):
    monkeypatch.chdir(settings.notebooks)
    monkeypatch.setenv("CD4ML_WHO", "ada")
    told = [read_use(open_step("evaluate", "iris")) for _ in range(2)]
    assert told[0] == told[1]
    assert (told[0].count, told[0].fault) == (1, "")
    uses = list_uses(Store(settings.release_store), "iris", told[0].holdout)
    assert [(use.model, use.who) for use in uses] == [(told[0].model, "ada")]
    assert dt.datetime.fromisoformat(uses[0].at).utcoffset() == dt.timedelta(0)
    steps = list(run_steps(make_order(settings, "iris", steps=("prepare", "train")), {}))
    assert {step.status for step in steps} == {"cached"}
    assert not (Path(settings.notebooks) / "step.json").exists()
