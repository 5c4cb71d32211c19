"""Who may serve: the gate, a person, an experiment, and a release that was rolled back."""

import datetime as dt
from dataclasses import replace

import pytest

from cd4ml.base.errors import GateError, ReleaseError
from cd4ml.base.settings import load_settings
from cd4ml.base.store import Store
from cd4ml.delivery import promotion
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
    promote_release,
    release_problem,
    roll_back,
)
from cd4ml.delivery.release import watch_champion
from cd4ml.delivery.results import Result
from cd4ml.delivery.runs import list_other_rules
from cd4ml.delivery.steps import make_order

NOW = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)


@pytest.fixture
def settings(root, tmp_path):
    return replace(load_settings(root, environ={}), release_store=str(tmp_path))


@pytest.fixture
def order(settings):
    return make_order(settings, "iris")


def keep_release(settings, version, decision="pass", against=None, **run):
    """Write a release that the gate judged as `decision`, held against the release `against`."""
    judged = {"status": decision, "reason": "because"}
    run |= {"decision": judged, "metrics": {}, "steps": [], "report": "reports/e.html"}
    release = Release("iris", version, "2026-01-02", "multiclass", "species", (), (), run, {}, against, {})
    Store(settings.release_store).write(f"iris/{version}/manifest.json", release.to_json())
    return release


def test_what_passes_on_the_default_parameters_is_promoted(settings, order):
    assert _decide_promotion(order, keep_release(settings, 1), False, Wish(NOW)) == (True, "the gate says pass")


@pytest.mark.parametrize("decision", ["fail", "inconclusive"])
def test_what_does_not_pass_is_not_promoted(settings, order, decision):
    release = keep_release(settings, 1, decision)
    assert _decide_promotion(order, release, False, Wish(NOW)) == (False, f"the gate says {decision}: because")
    with pytest.raises(GateError, match=rf"did not pass its gate: {decision}.*because.*say why with --why"):
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


def test_a_champion_that_came_during_the_run_is_not_replaced(settings, order, monkeypatch):
    first, second, bundles = keep_release(settings, 1), keep_release(settings, 2, against=1), []
    _move_champion(settings, first, "promote", Wish(NOW))

    def run_delivery(order, now):
        order.find_champion({})
        _move_champion(settings, second, "promote", Wish(NOW))

    def write_bundle(store, bundle):
        bundles.append(bundle)
        return keep_release(settings, 3, against=bundle.judged_against)

    monkeypatch.setattr(promotion, "find_rival", lambda store, problem, results, version: Result(
        "champion", "model", "", about={"release": version}))
    for name, stub in (("run_delivery", run_delivery), ("write_bundle", write_bundle),
                       ("find_release_of", lambda store, run: None)):
        monkeypatch.setattr(promotion, name, stub)
    with pytest.raises(ReleaseError, match=r"Release 2 became the champion meanwhile.*3 is kept.*again"):
        release_problem(order, Wish(NOW))
    assert bundles[0].judged_against == 1, "what the evaluation saw"
    assert find_champion(Store(settings.release_store), "iris") == 2


def test_a_release_that_never_served_is_not_rolled_back_to_without_a_reason(settings):
    for version, decision in ((1, "pass"), (2, "pass"), (3, "fail")):
        release = keep_release(settings, version, decision)
        _record_event(settings, release, "refuse" if version == 3 else "promote", Wish(NOW))
    with pytest.raises(ReleaseError, match=r"3 of 'iris' never served.*the gate said fail.*--version 3 --promote"):
        roll_back(settings, "iris", 3, Wish(NOW))
    assert roll_back(settings, "iris", 1, Wish(NOW)).champion == 1, "it served before"
    assert roll_back(settings, "iris", 3, Wish(NOW, why="nothing else is left")).champion == 3


def test_a_finished_release_is_promoted_by_the_same_rules_as_a_new_one(settings):
    for version, against, decision in ((1, None, "pass"), (2, 1, "pass"), (3, 1, "pass"), (4, 2, "fail")):
        keep_release(settings, version, decision, against)
    own = "-p evaluate.rules=[]"
    keep_release(settings, 5, against=2, other_rules=[own])
    wish = Wish(NOW, promote=True)
    assert promote_release(settings, "iris", 1, wish).why == "promoted by hand"
    assert promote_release(settings, "iris", 2, wish).previous == 1
    assert promote_release(settings, "iris", 2, wish) is None
    for version, words in ((3, r"not judged against the champion.*release 1, and now there is release 2.*--why"),
                           (4, r"did not pass.*--why"), (5, r"other rules.*evaluate\.rules.*--why")):
        with pytest.raises(GateError if version == 4 else ReleaseError, match=words):
            promote_release(settings, "iris", version, wish)
    assert find_champion(Store(settings.release_store), "iris") == 2
    wish = replace(wish, why="so be it")
    assert promote_release(settings, "iris", 5, wish).why == f"so be it (by other rules: {own})"
    assert promote_release(settings, "iris", 3, wish).why == (
        "so be it (judged against release 1, and now there is release 5)")


def test_a_finished_release_does_not_replace_a_champion_that_came_meanwhile(settings, monkeypatch):
    first, second = keep_release(settings, 1), keep_release(settings, 2, against=1)
    third = keep_release(settings, 3, against=1)
    _move_champion(settings, first, "promote", Wish(NOW))
    verify = promotion.verify_release

    def verify_slowly(store, release):
        verify(store, release)
        if release == third:
            _move_champion(settings, second, "promote", Wish(NOW))

    monkeypatch.setattr(promotion, "verify_release", verify_slowly)
    with pytest.raises(ReleaseError, match="Release 2 became the champion meanwhile"):
        promote_release(settings, "iris", 3, Wish(NOW, promote=True))
    assert find_champion(Store(settings.release_store), "iris") == 2


@pytest.mark.parametrize("name", ["evaluate.rules=[{metric: accuracy, at_least: 0.01}]", "evaluate.confidence=0.6",
                                  "evaluate.seed=1", "evaluate.resamples=500", "prepare.rules=[]"])
def test_whoever_brings_rules_of_their_own_says_why(settings, name):
    order = make_order(settings, "iris", overrides=[name])
    assert list_other_rules(order) == (f"-p {name}",)
    with pytest.raises(ReleaseError, match=r"other rules.*--why"):
        release_problem(order, Wish(NOW, promote=True))


def test_rules_of_the_parameter_files_are_not_other_ones_and_those_of_a_file_from_elsewhere_are(settings, tmp_path):
    assert list_other_rules(make_order(settings, "iris", overrides=["train.C=0.8"])) == ()
    assert list_other_rules(make_order(settings, "flights", "wider")) == ()
    path = tmp_path / "mine.yaml"
    path.write_text("extends: default\nevaluate:\n  confidence: 0.6\n")
    assert list_other_rules(make_order(settings, "iris", str(path))) == (f"{path}:3",)


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
