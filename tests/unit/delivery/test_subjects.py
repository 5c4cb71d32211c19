"""What a person means by a word, and what stands in for a word that was left out."""

from dataclasses import asdict, replace

import pytest

from cd4ml.base.errors import Cd4mlError, ReleaseError, StepError
from cd4ml.base.settings import load_settings
from cd4ml.base.store import Store
from cd4ml.delivery.history import Event, add_event
from cd4ml.delivery.manifest import Release
from cd4ml.delivery.provenance import Provenance
from cd4ml.delivery.record import Run, StepRun, write_run
from cd4ml.delivery.subjects import choose_pair, find_subject

ORIGIN = Provenance("", False, "", "3.11.2", "ada", "here")


@pytest.fixture
def settings(root, tmp_path):
    """Return settings with releases 1 (champion) to 3 (judged against 1), and two runs that have a model."""
    stores = {name: str(tmp_path / place) for name, place in (("release_store", "store"), ("run_store", "runs"))}
    made = replace(load_settings(root, environ={}), **stores)
    for version, against in ((1, None), (2, 1), (3, 1)):
        keep_release(made, version, against)
    promote(made, 1)
    for name in ("20261103-0915-a1b2", "20261104-0915-c3d4"):
        steps = tuple(StepRun(step, "ran", 1.0, step, str(tmp_path / step)) for step in ("prepare", "train"))
        folder = tmp_path / "runs/runs/toy" / name
        folder.mkdir(parents=True)
        write_run(folder, Run(name, "toy", "default", "", 0.0, steps, {}, ORIGIN))
    return made


def keep_release(settings, version, against):
    run = {"params": {}, "metrics": {}, "steps": [], "decision": {}, "provenance": asdict(ORIGIN)}
    made = Release("toy", version, "2026-01-02", "binary", "y", (), (), run, {}, against, {})
    Store(settings.release_store).write(f"toy/{version}/manifest.json", made.to_json())


def promote(settings, version):
    add_event(Store(settings.release_store), "toy", lambda number, champion: Event(
        number, "promote", version, champion, "2026-01-02", "ada", "", "local"))


@pytest.mark.parametrize(("word", "name"), [
    ("2", "release 2"), ("champion", "release 1"), ("latest", "release 3"),
    ("20261103-0915-a1b2", "run 20261103-0915-a1b2"),
    ("20261104-", "run 20261104-0915-c3d4"), ("20261104", "run 20261104-0915-c3d4")])
def test_a_word_means_a_release_or_a_run(settings, word, name):
    assert find_subject(settings, "toy", word).name == name


@pytest.mark.parametrize(("word", "kind", "told"), [
    ("9", ReleaseError, "no release 9"), ("2026", ReleaseError, "no release 2026"), ("20261", StepError, "2 runs"),
    ("nonsense", StepError, "begins with 'nonsense'"), ("-1", StepError, "begins with"),
    ("²", StepError, "begins with")])
def test_a_word_that_means_nothing_says_what_there_is(settings, word, kind, told):
    with pytest.raises(kind, match=told):
        find_subject(settings, "toy", word)


@pytest.mark.parametrize(("words", "names"), [
    (("2", "3"), ("release 2", "release 3")), ((), ("release 1", "release 3")), (("2",), ("release 1", "release 2")),
    (("20261103",), ("release 1", "run 20261103-0915-a1b2")),
    (("20261103", "3"), ("run 20261103-0915-a1b2", "release 3"))])
def test_the_champion_stands_in_for_what_was_left_out(settings, words, names):
    assert tuple(one.name for one in choose_pair(settings, "toy", words)) == names


def test_the_champion_itself_is_held_against_what_it_was_judged_against(settings):
    promote(settings, 3)
    assert choose_pair(settings, "toy", ())[0].name == "release 1"
    keep_release(settings, 4, None)
    promote(settings, 4)
    assert [one.name for one in choose_pair(settings, "toy", ("champion",))] == ["release 3", "release 4"]


def test_without_a_champion_the_release_before_stands_in(settings):
    Store(settings.release_store).delete("toy/history")
    assert choose_pair(settings, "toy", ("2",))[0].name == "release 1"
    with pytest.raises(ReleaseError, match="nothing to compare release 1"):
        choose_pair(settings, "toy", ("1",))
    with pytest.raises(ReleaseError, match="no champion"):
        find_subject(settings, "toy", "champion")
    with pytest.raises(Cd4mlError, match="no release of 'other'"):
        choose_pair(settings, "other", ())


def test_a_damaged_release_is_not_compared(settings):
    Store(settings.release_store).write("toy/2/model/model.skops", b"from elsewhere")
    with pytest.raises(ReleaseError, match=r"Release 2 of 'toy' is damaged: model/model\.skops"):
        find_subject(settings, "toy", "2")
