"""What changed between two releases or runs: each part by itself, nothing at all, and bundles that lack something."""

import json
import subprocess
from dataclasses import replace

import pandas as pd
import pytest

from cd4ml.base.errors import StoreError
from cd4ml.base.fingerprint import hash_bytes
from cd4ml.base.store import Store
from cd4ml.data.profile import profile_frame
from cd4ml.delivery.cells import CellChange
from cd4ml.delivery.changes import LONGEST, Change, Changes
from cd4ml.delivery.comparison import compare_subjects, read_from, take_release, take_run
from cd4ml.delivery.manifest import Release
from cd4ml.delivery.provenance import Provenance
from cd4ml.delivery.record import Run, StepRun
from cd4ml.delivery.release import list_releases, read_release
from cd4ml.delivery.results import Result, write_record

ACCURACY = {"value": 0.95, "low": 0.9, "high": 0.98, "confidence": 0.95, "n": 60, "units": 60, "lower": 0.91,
            "upper": 0.97}
CLEAN = {"commit": "c0ffee", "is_dirty": False, "lock": "", "python": "3.11.2", "who": "ada", "host": "here"}


def make_cell(source, name="", kind="code", tags=()):
    return {"cell_type": kind, "id": name, "source": source, "metadata": {"tags": list(tags)}}


def make_notebook(*cells):
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": list(cells)}


def make_profile(values):
    return json.dumps(profile_frame(pd.DataFrame({"x": values})).to_dict()).encode()


def make_row(status="pass", value=0.02, **rule):
    return {"rule": {"metric": "accuracy", **(rule or {"margin": 0.05})}, "status": status, "value": value,
            "low": -0.01, "high": 0.05, "threshold": -0.05, "n": 60, "reason": "because"}


class Pair:
    """A champion (release 1) and a candidate (release 2) that are the same until a test changes one of them."""

    def __init__(self, store):
        self.store, self.root = store, None
        self.fields = [self.describe(), self.describe()]
        self.files = [self.fill(), self.fill()]

    @staticmethod
    def describe():
        return {"params": {"train": {"C": 1.0}}, "metrics": {"accuracy": dict(ACCURACY)}, "decision": {},
                "steps": [{"name": "train", "key": "k"}, {"name": "evaluate", "key": "e"}], "provenance": dict(CLEAN)}

    @staticmethod
    def fill():
        notebook = make_notebook(make_cell("# Title", "a", "markdown"), make_cell("x = 1\ny = 2", "b"))
        return {"notebooks/train.ipynb": json.dumps(notebook).encode(),
                "profile.json": make_profile([1.0, 2.0, 3.0] * 30),
                "requirements.lock": b"numpy==2.1 \\\n    --hash=sha256:0\n"}

    def compare(self, data=({}, {})):
        made = []
        for i in (0, 1):
            hashes = {path: hash_bytes(content) for path, content in self.files[i].items()}
            release = Release("toy", i + 1, "2026-01-02", "binary", "y", (), (), self.fields[i], data[i],
                              1 if i else None, hashes)
            made.append(release)
            for path, content in self.files[i].items():
                self.store.write(f"{release.folder}/{path}", content)
            self.store.write(f"{release.folder}/manifest.json", release.to_json())
        return compare_subjects(*(take_release(one, read_from(self.store, one)) for one in made), self.root)

    def take(self):
        self.compare()
        releases = [read_release(self.store, "toy", version) for version in (1, 2)]
        return [take_release(one, read_from(self.store, one)) for one in releases]


@pytest.fixture
def pair(tmp_path):
    return Pair(Store(str(tmp_path)))


def test_nothing_changed_is_said_plainly(pair):
    changes = pair.compare()
    assert changes.is_empty
    assert not changes.notes
    assert changes._repr_html_().startswith("<p>Nothing changed since release 1: the parameters, the data, ")
    assert [one.name for one in changes.metrics] == ["accuracy"]


def test_a_parameter_that_changed_is_told_by_its_path(pair):
    pair.fields[1]["params"] = {"train": {"C": 0.5}, "evaluate": {"rules": [{"metric": "accuracy"}]}}
    changes = pair.compare()
    assert changes.params == (Change("train.C", 1.0, 0.5), Change("evaluate.rules[0].metric", None, "accuracy"))
    assert not changes.is_empty
    assert "Changed since release 1: 2 parameters. The same: the data," in changes._repr_html_()


@pytest.mark.parametrize(("before", "after"), [(1, True), (1, 1.0), ("1", 1), (None, "None"), ([], {})])
def test_values_of_another_type_are_another_value(pair, before, after):
    for fields, value in zip(pair.fields, (before, after), strict=True):
        fields["params"] = {"train": {"C": value}}
    assert pair.compare().params == (Change("train.C", before, after),)


def test_data_is_told_by_hash_and_rows(pair):
    pair.files[1]["profile.json"] = make_profile([1.0, 2.0, 3.0, 3.0] * 25)
    same, other = "0" * 64, "1" * 64
    changes = pair.compare(({"train": same, "holdout": same, "predictions": same},
                            {"train": other, "holdout": same, "predictions": other}))
    assert changes.data == (Change("train.sha256", same, other), Change("train.rows", 90, 100))
    assert f'<abbr title="{other}">111111111111…</abbr>' in changes._repr_html_()


def test_another_holdout_makes_the_metrics_no_comparison_and_says_so(pair):
    changes = pair.compare(({"holdout": "0" * 64}, {"holdout": "1" * 64}))
    assert any("different holdouts" in note for note in changes.notes)
    assert "different holdouts" in changes._repr_html_()


def test_a_package_and_python_that_changed_are_named(pair):
    pair.files[1]["requirements.lock"] = b"numpy==2.2\nruamel.yaml==0.18 ; os_name == 'nt'\nruamel.yaml==0.19\n"
    pair.fields[1]["provenance"]["python"] = "3.12.1"
    assert pair.compare().environment == (Change("Python", "3.11.2", "3.12.1"), Change("numpy", "2.1", "2.2"),
                                          Change("ruamel.yaml", None, "0.18 or 0.19"))


def test_a_lock_with_other_hashes_only_is_not_the_same(pair):
    pair.files[1]["requirements.lock"] = b"numpy==2.1 \\\n    --hash=sha256:1\n"
    changes = pair.compare()
    assert not changes.environment
    assert "other hashes" in changes.notes[0]


def test_a_cell_that_changed_comes_with_its_diff(pair):
    notebook = make_notebook(make_cell("# Title", "a", "markdown"), make_cell("x = 1\ny = 3", "b"))
    pair.files[1]["notebooks/train.ipynb"] = json.dumps(notebook).encode()
    assert pair.compare().cells == (CellChange("train", 2, "changed", " x = 1\n-y = 2\n+y = 3"),)


def test_a_long_diff_is_cut_and_says_by_how_much():
    diff = "\n".join(f"+{i}" for i in range(LONGEST + 7))
    page = Changes("release 2", "release 1", cells=(CellChange("train", 1, "added", diff),))._repr_html_()
    assert page.count("<ins>") == LONGEST
    assert "… and 7 more lines" in page


def test_the_first_release_has_nothing_to_be_compared_with():
    assert "no champion to compare with" in Changes("release 2", None)._repr_html_()


@pytest.mark.parametrize("lacking", [0, 1])
def test_bundles_without_some_files_are_compared_as_far_as_they_go(pair, lacking):
    pair.files[lacking] = {}
    pair.fields[1]["params"] = {"train": {"C": 0.5}}
    changes = pair.compare()
    assert changes.params == (Change("train.C", 1.0, 0.5),)
    assert changes.cells == changes.environment == ()
    assert changes.notes == (f"The notebook of step train is not in the bundle of release {lacking + 1}.",
                             f"The lock is not in the bundle of release {lacking + 1}: packages cannot be compared.")


def test_an_altered_file_is_an_error(pair):
    pair.compare()
    pair.store.write("toy/1/notebooks/train.ipynb", b"{}")
    with pytest.raises(StoreError, match="is not what was stored"):
        compare_subjects(*(take_release(one, read_from(pair.store, one)) for one in list_releases(pair.store, "toy")))


@pytest.mark.parametrize(("origin", "keys", "unknown"), [
    ({"is_dirty": True}, "other", True), ({"commit": ""}, "other", True), ({"commit": "decaf"}, "other", False),
    ({"is_dirty": True}, "k", False)])  # with the same keys the modules that the steps read are the same
def test_code_outside_the_notebooks_is_known_by_a_commit_or_by_keys(pair, origin, keys, unknown):
    pair.fields[1]["provenance"] |= origin
    pair.fields[1]["steps"][0]["key"] = keys
    changes = pair.compare()
    assert any("modules" in note for note in changes.notes) == unknown
    assert changes.is_empty == (not {"commit", "is_dirty"} & origin.keys())


def test_two_dirty_trees_of_one_commit_are_not_called_the_same(pair):
    for fields in pair.fields:
        fields["provenance"]["is_dirty"] = True
    changes = pair.compare()
    assert changes.is_empty
    assert "commit" not in changes._repr_html_().split("</p>")[0]


def test_whatever_is_shown_is_escaped_and_whatever_is_kept_is_json(pair):
    evil = "<script>alert('&')</script>"
    pair.fields[1]["params"] = {"train": {evil: evil}}
    pair.fields[1]["provenance"] |= {"commit": evil, "python": evil}
    pair.files[1]["notebooks/train.ipynb"] = json.dumps(make_notebook(make_cell(evil, evil))).encode()
    changes = pair.compare()
    assert "<script" not in changes._repr_html_()
    assert "&lt;script&gt;alert(&#x27;&amp;&#x27;)" in changes._repr_html_()
    assert json.loads(json.dumps(changes.to_dict()))["params"][0] == {"name": f"train.{evil}", "before": None,
                                                                     "after": evil}
    assert changes.to_dict()["metrics"][0]["before"] == ACCURACY


def test_other_rows_to_learn_from_are_told_by_their_drift(pair):
    pair.files[1]["profile.json"] = make_profile([3.0] * 80 + [None] * 20)
    drift, = pair.compare(({"train": "0" * 64}, {"train": "1" * 64})).drift
    assert (drift.name, drift.missing_now) == ("x", 0.2)
    assert drift.psi > 0.2
    assert pair.compare(({"train": "0" * 64}, {"train": "0" * 64})).drift == ()


@pytest.mark.parametrize("profile", [b"", b"no json", b'{"format": 9}', b"[]"])
def test_a_profile_that_cannot_be_read_is_not_compared(pair, profile):
    pair.files[1]["profile.json"] = profile
    changes = pair.compare(({"train": "0" * 64}, {"train": "1" * 64}))
    assert changes.drift == ()
    assert [one.name for one in changes.data] == ["train.sha256", "train.rows"]


def test_rules_are_paired_by_their_label(pair):
    least = make_row("pass", at_least=0.8)
    pair.fields[0]["decision"] = {"format": 1, "status": "pass", "reason": "a", "results": [least, make_row()]}
    pair.fields[1]["decision"] = {"format": 1, "status": "fail", "reason": "b", "results": [
        make_row("fail"), make_row(at_most=1), make_row(at_most=1)]}
    changes = pair.compare()
    assert changes.decision == Change("decision", {"status": "pass", "reason": "a"}, {"status": "fail", "reason": "b"})
    told = {one.name: tuple(side and side["status"] for side in (one.before, one.after)) for one in changes.rules}
    assert told == {"Accuracy no worse than the champion": ("pass", "fail"), "Accuracy ≤ 1": (None, "pass"),
                    "Accuracy ≤ 1 (again)": (None, "pass"), "Accuracy ≥ 0.8": ("pass", None)}
    assert json.loads(json.dumps(changes.to_dict()))["rules"][0]["after"]["status"] == "fail"


@pytest.mark.parametrize("decision", [{}, {"format": 2, "status": "pass", "results": [1]},
                                      {"format": 1, "status": "pass", "results": [{"rule": {"nonsense": 1}}]}])
def test_a_decision_of_another_version_has_no_rules_to_compare(pair, decision):
    pair.fields[1]["decision"] = decision
    assert pair.compare().rules == ()


@pytest.mark.parametrize(("row", "found"), [
    (make_row(), ["accuracy"]), (make_row(margin=0.0, superior=True), ["accuracy"]), (make_row(at_least=0.5), []),
    (make_row(margin=0.0, superior=True, against="baseline"), []), (make_row(margin=0.1, slices=["origin"]), []),
    (make_row(value=None), [])])
def test_the_paired_difference_is_that_of_the_gate(pair, row, found):
    pair.fields[1]["decision"] = {"format": 1, "status": "pass", "reason": "", "results": [row]}
    changes = pair.compare()
    assert list(changes.differences) == found
    assert ("+0.02 (−0.01 to +0.05)" in changes._repr_html_()) == bool(found)
    subjects = [replace(one, judged_against=7) for one in pair.take()]
    assert compare_subjects(*subjects).differences == {}, "it was judged against another"


def test_modules_of_two_commits_are_compared_in_the_clone(pair, tmp_path):
    pair.root, commits = tmp_path / "clone", []
    (pair.root / "nbs").mkdir(parents=True)
    for source in ("x = 1", "x = 2"):
        notebook = make_notebook(make_cell("#| default_exp toy"), make_cell(source, "x"))
        (pair.root / "nbs/00_toy.ipynb").write_text(json.dumps(notebook))
        who = ("-c", "user.name=ada", "-c", "user.email=ada@example.org")
        for words in (("init", "-q"), ("add", "."), (*who, "commit", "-qm", "One")):
            subprocess.run(["git", *words], cwd=pair.root, check=True)
        told = subprocess.run(["git", "rev-parse", "HEAD"], cwd=pair.root, capture_output=True, text=True, check=True)
        commits.append(told.stdout.strip())
    for fields, commit in zip(pair.fields, commits, strict=True):
        fields["provenance"]["commit"] = commit
    assert pair.compare().cells == (CellChange("00_toy", 2, "changed", "-x = 1\n+x = 2"),)
    pair.fields[0]["provenance"]["commit"] = "0" * 40
    assert pair.compare().notes[-1].endswith("this clone has not 000000000000.")


def test_a_run_is_read_from_the_run_store(pair, tmp_path):
    pair.compare()
    step, folder = tmp_path / "step", tmp_path / "runs"
    write_record(step, "train", {"profile": Result("profile", "value", "0" * 64, value=json.loads(make_profile([9.0]))),
                                 "train": Result("train", "frame", "1" * 64)})
    folder.mkdir()
    (folder / "train.ipynb").write_text(json.dumps(make_notebook(make_cell("# Title", "a", "markdown"))))
    (folder / "evaluate.html").write_text("<p>report</p>")
    (tmp_path / "requirements.lock").write_bytes(b"numpy==2.2\n")
    lock = hash_bytes(b"numpy==2.2\n")
    run = Run("20260102-030405-a1b2", "toy", "default", "", 0.0, (StepRun("train", "ran", 1.0, "k", str(step)),),
              {"train": {"C": 2.0}}, Provenance("c0ffee", False, lock, "3.11.2", "ada", ""), {"accuracy": ACCURACY},
              report=str(folder / "evaluate.html"))
    after = take_run(run, tmp_path)
    assert after.read("reports/evaluate.html") == b"<p>report</p>"
    changes = compare_subjects(pair.take()[0], after)
    assert (changes.before, changes.after) == ("release 1", "run 20260102-030405-a1b2")
    assert changes.params == (Change("train.C", 1.0, 2.0),)
    assert changes.environment == (Change("numpy", "2.1", "2.2"),)
    assert [one.name for one in changes.data] == ["train.sha256", "train.rows"]
    assert changes.cells[0].kind == "removed"
    assert changes.drift[0].psi > 0.2
    (tmp_path / "requirements.lock").write_bytes(b"numpy==2.3\n")
    told = compare_subjects(pair.take()[0], take_run(run, tmp_path)).notes
    assert told[0] == "The lock is not among the files of run 20260102-030405-a1b2: packages cannot be compared."
