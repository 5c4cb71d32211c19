"""What changed between two releases: each part by itself, nothing at all, and bundles that lack something."""

import json

import pytest

from cd4ml.base.errors import StoreError
from cd4ml.base.fingerprint import hash_bytes
from cd4ml.base.store import Store
from cd4ml.delivery.changes import LONGEST, CellChange, Change, Changes, compare_notebooks, compare_releases
from cd4ml.delivery.manifest import Release

ACCURACY = {"value": 0.95, "low": 0.9, "high": 0.98, "confidence": 0.95, "n": 60, "units": 60, "lower": 0.91,
            "upper": 0.97}
CLEAN = {"commit": "c0ffee", "is_dirty": False, "lock": "", "python": "3.11.2", "who": "ada", "host": "here"}


def make_cell(source, name="", kind="code", tags=()):
    return {"cell_type": kind, "id": name, "source": source, "metadata": {"tags": list(tags)}}


def make_notebook(*cells):
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": list(cells)}


class Pair:
    """A champion (release 1) and a candidate (release 2) that are the same until a test changes one of them."""

    def __init__(self, store):
        self.store = store
        self.fields = [self.describe(), self.describe()]
        self.files = [self.fill(), self.fill()]

    @staticmethod
    def describe():
        return {"params": {"train": {"C": 1.0}}, "metrics": {"accuracy": dict(ACCURACY)}, "decision": {},
                "steps": [{"name": "train", "key": "k"}, {"name": "evaluate", "key": "e"}], "provenance": dict(CLEAN)}

    @staticmethod
    def fill():
        notebook = make_notebook(make_cell("# Title", "a", "markdown"), make_cell("x = 1\ny = 2", "b"))
        return {"notebooks/train.ipynb": json.dumps(notebook).encode(), "profile.json": b'{"rows": 90}',
                "requirements.lock": b"numpy==2.1 \\\n    --hash=sha256:0\n"}

    def compare(self, data=({}, {}), against=1):
        for i in (0, 1):
            hashes = {path: hash_bytes(content) for path, content in self.files[i].items()}
            release = Release("toy", i + 1, "2026-01-02", "binary", "y", (), (), self.fields[i], data[i],
                              against if i else None, hashes)
            for path, content in self.files[i].items():
                self.store.write(f"{release.folder}/{path}", content)
            self.store.write(f"{release.folder}/manifest.json", release.to_json())
        return compare_releases(self.store, release)


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
    pair.files[1]["profile.json"] = b'{"rows": 100}'
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


@pytest.mark.parametrize(("before", "after", "expected"), [
    ([make_cell("a")], [make_cell("a"), make_cell("b")], [(2, "added")]),
    ([make_cell("a"), make_cell("b")], [make_cell("b")], [(1, "removed")]),
    ([make_cell("a\n")], [make_cell("a")], []),
    ([make_cell("abc", "1")], [make_cell("xyz", "1")], [(1, "changed")]),
    ([make_cell("abc", "1")], [make_cell("xyz", "2")], [(1, "added"), (1, "removed")]),
    ([make_cell("abcdefgh")], [make_cell("abcdefgx")], [(1, "changed")]),
    ([make_cell("a = 1")], [make_cell("a = 1", kind="markdown")], [(1, "changed")]),
    ([make_cell("C = 1", tags=["injected-parameters"]), make_cell("a")],
     [make_cell("C = 2", tags=["injected-parameters"]), make_cell("a")], []),
    ([make_cell("one", "1"), make_cell("two", "2"), make_cell("333", "3")], [make_cell("zzzz", "3")],
     [(1, "removed"), (2, "removed"), (1, "changed")]),
    ([], [], []),
])
def test_cells_are_added_removed_or_changed(before, after, expected):
    changes = compare_notebooks("train", make_notebook(*before), make_notebook(*after))
    assert [(one.cell, one.kind) for one in changes] == expected


def test_code_that_became_words_is_told(pair):
    found, = compare_notebooks("train", make_notebook(make_cell("a", "1")), make_notebook(make_cell("a", "1", "raw")))
    assert found.diff == "-(code cell)\n+(raw cell)\n a"


def test_a_long_diff_is_cut_and_says_by_how_much():
    diff = "\n".join(f"+{i}" for i in range(LONGEST + 7))
    page = Changes(2, 1, cells=(CellChange("train", 1, "added", diff),))._repr_html_()
    assert page.count("<ins>") == LONGEST
    assert "… and 7 more lines" in page


def test_the_first_release_has_nothing_to_be_compared_with(pair):
    changes = pair.compare(against=None)
    assert changes == Changes(2, None)
    assert "no champion to compare with" in changes._repr_html_()


def test_a_champion_that_is_gone_is_said(pair):
    assert pair.compare(against=9).notes == ("Release 9 is no longer in the store.",)


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
    release = pair.compare()
    pair.store.write("toy/1/notebooks/train.ipynb", b"{}")
    with pytest.raises(StoreError, match="is not what was stored"):
        compare_releases(pair.store, Release("toy", 2, "", "binary", "y", (), (), pair.fields[1], {}, release.champion,
                                             {"notebooks/train.ipynb": "0" * 64}))


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
