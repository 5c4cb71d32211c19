"""Each ingredient of a step's key, changed in turn."""

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from cd4ml.delivery.cache import Surroundings, collect_ingredients, compare_ingredients, find_reachable, mark_edits
from cd4ml.delivery.results import Result

STEP = [
    {"cell_type": "markdown", "metadata": {}, "source": ["# Train"]},
    {"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": ['problem: str = "shop"'], "outputs": []},
    {"cell_type": "code", "metadata": {}, "source": ["from shop.fit import fit\n", "fit()"], "outputs": []},
]


@pytest.fixture
def shop(tmp_path):
    """Return a workbench: a step notebook and a package with a module that it reaches and one that it does not."""
    files = {"__init__.py": "", "fit.py": "def fit():\n    from . import deep\n    return deep.value\n",
             "deep.py": "value = 1\n", "aside.py": "value = 1\n", "problems/__init__.py": "",
             "problems/shop.py": "PROBLEM = 1\n"}
    for name, text in files.items():
        path = tmp_path / "shop" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    write_step(tmp_path, STEP)
    return tmp_path


def write_step(folder, cells):
    (folder / "train.ipynb").write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4}))


def collect(folder, params=None, inputs=None, **changes):
    surroundings = replace(Surroundings(folder, "shop", "lock", {"sales": "aa"}), **changes)
    found = inputs or {"rows": Result("rows", "frame", "11")}
    return collect_ingredients(folder / "train.ipynb", {"problem": "shop", **(params or {})}, found, surroundings)


def find_changes(before, after):
    return {name for name, value in asdict(before).items() if getattr(after, name) != value}


@pytest.mark.parametrize(("change", "expected"), [
    ({"params": {"max_depth": 6}}, {"params"}),
    ({"inputs": {"rows": Result("rows", "frame", "22")}}, {"inputs"}),
    ({"data": {"sales": "bb"}}, {"data"}),
    ({"lock": "another"}, {"environment"}),
])
def test_what_is_handed_in_changes_its_own_ingredient(shop, change, expected):
    assert find_changes(collect(shop), collect(shop, **change)) == expected
    assert collect(shop).key != collect(shop, **change).key


@pytest.mark.parametrize(("name", "text", "expected"), [
    ("fit.py", "def fit():\n    from . import deep\n    return deep.value + 1\n", {"project"}),
    ("deep.py", "value = 2\n", {"project"}),
    ("problems/shop.py", "PROBLEM = 2\n", {"project"}),
    ("deep.py", '"""Say what it is."""\nvalue = 1  # one\n', set()),
    ("aside.py", "value = 2\n", set()),
    ("__init__.py", "import random\n", {"project"}),
    ("problems/__init__.py", "LIMIT = 3\n", {"project"}),
])
def test_code_counts_if_it_can_be_reached_and_does_something_else(shop, name, text, expected):
    before = collect(shop)
    path = shop / "shop" / name
    path.write_text(text)
    assert find_changes(before, collect(shop)) == expected


@pytest.mark.parametrize(("cell", "source", "expected"), [
    (2, ["from shop.fit import fit\n", "fit() + 1"], {"notebook"}),
    (2, ["# fit it\n", "from shop.fit import fit\n", "\n", "fit()  # now"], set()),
    (0, ["# Train, in other words"], set()),
    (1, ['problem: str = "another"'], set()),
])
def test_words_and_defaults_of_a_notebook_do_not_count(shop, cell, source, expected):
    before = collect(shop)
    cells = [dict(one) for one in STEP]
    cells[cell]["source"] = source
    write_step(shop, cells)
    assert find_changes(before, collect(shop)) == expected


def test_code_that_was_edited_while_it_ran_is_no_ingredient_of_any_other_run(shop):
    before = collect(shop)
    assert mark_edits(before, collect(shop)) == before
    (shop / "shop/deep.py").write_text("value = 2\n")
    (shop / "shop/fit.py").write_text("from . import deep, aside\n\ndef fit():\n    return 1\n")
    after = collect(shop)
    marked = mark_edits(before, after)
    assert marked.key not in (before.key, after.key)
    assert compare_ingredients(asdict(marked), before) == ["project: shop.aside is gone", "project: shop.deep changed",
                                                           "project: shop.fit changed"]


def test_outputs_do_not_count(shop):
    before = collect(shop)
    cells = [dict(one) for one in STEP]
    cells[2]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": ["done"]}]
    write_step(shop, cells)
    assert collect(shop).key == before.key


def test_an_import_inside_a_function_is_found_and_a_missing_module_is_no_fault(shop):
    found = find_reachable(["import shop.fit, shop.nowhere, pandas"], shop, "shop")
    assert set(found) == {"shop.fit", "shop.deep", "shop"}
    shutil.rmtree(shop / "shop")
    assert find_reachable(["import shop.fit"], Path(shop), "shop") == {}
