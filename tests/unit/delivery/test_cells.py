"""What became of cells: added, removed or changed, in notebooks and between commits, however long they are."""

import json
import subprocess

import pytest

from cd4ml.delivery.cells import CellChange, compare_modules, compare_notebooks, find_commits


def make_cell(source, name="", kind="code", tags=()):
    return {"cell_type": kind, "id": name, "source": source, "metadata": {"tags": list(tags)}}


def make_notebook(*cells):
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": list(cells)}


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


def test_code_that_became_words_is_told():
    found, = compare_notebooks("train", make_notebook(make_cell("a", "1")), make_notebook(make_cell("a", "1", "raw")))
    assert found.diff == "-(code cell)\n+(raw cell)\n a"


def test_long_cells_are_compared_by_lines_and_quickly():
    old, new = ("\n".join(f"x_{i} = {i * step}" for i in range(20_000)) for step in (1, 1.5))
    found = compare_notebooks("train", make_notebook(make_cell(old)), make_notebook(make_cell(new)))
    assert {one.kind for one in found} <= {"added", "removed", "changed"}
    same_start = compare_notebooks("train", make_notebook(make_cell(old)), make_notebook(make_cell(f"{old}\ny = 1")))
    assert [(one.kind, one.diff.splitlines()[-1]) for one in same_start] == [("changed", "+y = 1")]


def test_hundreds_of_other_cells_are_paired_by_id_only():
    old, new = ([make_cell(f"{word} {i}" * 20) for i in range(300)] for word in ("apple", "stone"))
    found = compare_notebooks("train", make_notebook(*old), make_notebook(*new))
    assert sorted({one.kind for one in found}) == ["added", "removed"]
    assert len(found) == 600
    named = [[{**one, "id": str(i)} for i, one in enumerate(cells)] for cells in (old, new)]
    assert {one.kind for one in compare_notebooks("train", *(make_notebook(*cells) for cells in named))} == {"changed"}


@pytest.fixture
def clone(tmp_path):
    """Return a function that commits notebooks by path, none removing one, and gives the hash."""
    def git(*words):
        who = ("-c", "user.name=ada", "-c", "user.email=ada@example.org")
        done = subprocess.run(["git", *who, *words], cwd=tmp_path, check=True, capture_output=True)
        return done.stdout.decode().strip()

    def commit(files):
        for path, notebook in files.items():
            target = tmp_path / path
            target.parent.mkdir(parents=True, exist_ok=True)
            if notebook is None:
                target.unlink()
            else:
                target.write_text(notebook if isinstance(notebook, str) else json.dumps(notebook), encoding="utf-8")
        git("add", "-A")
        git("commit", "-qm", "One")
        return git("rev-parse", "HEAD")

    git("init", "-q")
    commit.root = tmp_path
    return commit


EXPORT = make_cell("#| default_exp model.toy", "e")


def test_modules_are_compared_between_commits(clone):
    before = clone({"nbs/model/00_toy.ipynb": make_notebook(EXPORT, make_cell("x = 'ü'", "a")),
                    "nbs/steps/train.ipynb": make_notebook(make_cell("old")), "README.md": "1",
                    "nbs/model/10_gone.ipynb": make_notebook(EXPORT)})
    after = clone({"nbs/model/00_toy.ipynb": make_notebook(EXPORT, make_cell("x = 'ß'", "a")),
                   "nbs/steps/train.ipynb": make_notebook(make_cell("new")), "README.md": "2",
                   "nbs/model/10_gone.ipynb": None, "nbs/model/ü new.ipynb": make_notebook(EXPORT)})
    assert compare_modules(clone.root, before, after) == (
        CellChange("model/00_toy", 2, "changed", "-x = 'ü'\n+x = 'ß'"),
        CellChange("model/10_gone", 1, "removed", "-#| default_exp model.toy"),
        CellChange("model/ü new", 1, "added", "+#| default_exp model.toy"))


def test_a_module_that_cannot_be_read_is_left_out(clone):
    before = clone({"nbs/a.ipynb": make_notebook(EXPORT), "nbs/b.ipynb": make_notebook(EXPORT)})
    after = clone({"nbs/a.ipynb": "{ no notebook", "nbs/b.ipynb": make_notebook(EXPORT, make_cell("x"))})
    assert [(one.notebook, one.kind) for one in compare_modules(clone.root, before, after)] == [
        ("a", "removed"), ("b", "added")]


def test_a_workbench_below_the_root_of_its_clone_is_compared_as_well(clone):
    before = clone({"inside/nbs/a.ipynb": make_notebook(EXPORT), "nbs/b.ipynb": make_notebook(EXPORT)})
    after = clone({"inside/nbs/a.ipynb": make_notebook(EXPORT, make_cell("x")),
                   "nbs/b.ipynb": make_notebook(EXPORT, make_cell("x"))})
    assert [one.notebook for one in compare_modules(clone.root / "inside", before, after)] == ["a"]


@pytest.mark.parametrize("asked", ["", "HEAD", "--all", "c0ffee", "0" * 40, "0" * 39 + "\n", "<script>"])
def test_what_is_no_commit_of_the_clone_is_not_found(clone, asked):
    known = clone({"a": "1"})
    assert find_commits(clone.root, [asked, known]) == {known}


def test_without_git_nothing_is_found(tmp_path):
    assert find_commits(tmp_path, ["0" * 40]) == set()
    assert compare_modules(tmp_path, "0" * 40, "1" * 40) == ()
