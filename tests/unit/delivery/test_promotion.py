"""Who may serve: the gate, a person, an experiment, and a release that was rolled back."""

import datetime as dt
from dataclasses import replace

import pytest

from cd4ml.base.errors import ReleaseError
from cd4ml.base.settings import load_settings
from cd4ml.base.store import Store
from cd4ml.delivery.history import find_champion, read_history
from cd4ml.delivery.manifest import Release
from cd4ml.delivery.promotion import (
    Wish,
    _decide_promotion,
    _move_champion,
    _record_event,
    find_fault,
    follow_champion,
    mirror_registry,
    roll_back,
)
from cd4ml.delivery.release import watch_champion
from cd4ml.delivery.steps import make_order

NOW = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)


@pytest.fixture
def settings(root, tmp_path):
    return replace(load_settings(root, environ={}), release_store=str(tmp_path))


@pytest.fixture
def order(settings):
    return make_order(settings, "iris")


def keep_release(settings, version, decision="pass"):
    """Write a release that the gate judged as `decision`."""
    judged = {"status": decision, "reason": "because"}
    run = {"decision": judged, "metrics": {}, "steps": [], "report": "reports/e.html"}
    release = Release("iris", version, "2026-01-02", "multiclass", "species", (), (), run, {}, None, {})
    Store(settings.release_store).write(f"iris/{version}/manifest.json", release.to_json())
    return release


def test_what_passes_on_the_default_parameters_is_promoted(settings, order):
    assert _decide_promotion(order, keep_release(settings, 1), False, Wish(NOW)) == (True, "the gate says pass")


@pytest.mark.parametrize("decision", ["fail", "inconclusive"])
def test_what_does_not_pass_is_not_promoted(settings, order, decision):
    release = keep_release(settings, 1, decision)
    assert _decide_promotion(order, release, False, Wish(NOW)) == (False, f"the gate says {decision}: because")
    with pytest.raises(ReleaseError, match=rf"did not pass its gate: {decision}.*say why with --why"):
        _decide_promotion(order, release, False, Wish(NOW, promote=True))
    found = _decide_promotion(order, release, False, Wish(NOW, promote=True, why="only this once"))
    assert found == (True, "only this once")


@pytest.mark.parametrize("kind", ["variant", "override"])
def test_an_experiment_serves_only_if_a_person_says_so(settings, order, kind):
    if kind == "variant":
        experiment = replace(order, params=replace(order.params, variant="firm"))
    else:
        experiment = make_order(settings, "iris", overrides=["train.C=0.8"])
    release = keep_release(settings, 1)
    is_promoted, reason = _decide_promotion(experiment, release, False, Wish(NOW))
    assert not is_promoted
    assert "--promote" in reason
    assert _decide_promotion(experiment, release, True, Wish(NOW, promote=True)) == (True, "promoted by hand")


def test_a_release_that_was_rolled_back_does_not_come_back_by_itself(settings, order):
    first, second = keep_release(settings, 1), keep_release(settings, 2)
    for release, action in ((first, "promote"), (second, "promote"), (first, "rollback")):
        _move_champion(settings, release, action, Wish(NOW))
    is_promoted, reason = _decide_promotion(order, second, True, Wish(NOW))
    assert not is_promoted
    assert "release 2 was rolled back" in reason
    assert _decide_promotion(order, second, True, Wish(NOW, promote=True))[0]
    assert _decide_promotion(order, first, True, Wish(NOW)) == (
        True, "nothing changed since release 1, which is the champion")


def test_a_release_that_was_only_refused_was_never_rolled_back(settings, order):
    release = keep_release(settings, 1)
    _record_event(settings, release, "refuse", Wish(NOW))
    assert _decide_promotion(order, release, True, Wish(NOW)) == (True, "the gate says pass (known run)")


def test_a_damaged_release_cannot_become_the_champion(settings):
    _move_champion(settings, keep_release(settings, 1), "promote", Wish(NOW))
    damaged = replace(keep_release(settings, 2), files={"model/model.skops": "0" * 64})
    with pytest.raises(ReleaseError, match=r"model/model\.skops: .* is not in the store"):
        _move_champion(settings, damaged, "promote", Wish(NOW))
    store = Store(settings.release_store)
    assert find_champion(store, "iris") == 1
    assert len(read_history(store, "iris")) == 1


def test_an_event_says_who_when_why_and_where(settings, monkeypatch):
    monkeypatch.setenv("CD4ML_WHO", "ada")
    event = _move_champion(settings, keep_release(settings, 1), "promote", Wish(NOW, why="a rehearsal"))
    assert (event.who, event.at, event.why, event.environment, event.previous) == (
        "ada", "2026-01-02T00:00:00+00:00", "a rehearsal", "local", None)


def test_there_is_no_rival_before_the_first_release(order):
    assert watch_champion(order).find_champion({}) is None


@pytest.mark.slow
def test_a_registry_that_is_down_undoes_nothing_and_is_made_up_for(settings, tmp_path):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    settings = replace(settings, run_store=str(tmp_path / "run"), tracking_uri=uri, registry_uri="nosuch://place")
    for version in (1, 2):
        _move_champion(settings, keep_release(settings, version), "promote", Wish(NOW))
    assert roll_back(settings, "iris", 1, Wish(NOW)).previous == 2
    warning = follow_champion(settings, "iris")
    assert warning.startswith("MLflow fell behind. MLflow cannot be used (nosuch://place)")
    assert "cd4ml doctor" in warning
    assert find_fault(settings, "iris") == warning, "whoever looks at the releases is told"
    assert find_champion(Store(settings.release_store), "iris") == 1
    mirror_registry(replace(settings, registry_uri=uri), "iris")
    assert find_fault(settings, "iris") == ""
    assert roll_back(settings, "iris", 1, Wish(NOW)) is None


def test_whatever_is_wrong_with_the_note_of_a_fault_it_is_a_fault(settings, tmp_path):
    settings = replace(settings, run_store=str(tmp_path / "run"))
    (tmp_path / "run" / "mirror").mkdir(parents=True)
    (tmp_path / "run" / "mirror" / "iris.json").write_text("{")
    assert "cannot be read" in find_fault(settings, "iris")
