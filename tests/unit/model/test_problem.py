"""A problem that cannot be used is told with its file and line."""

import importlib
from dataclasses import replace

import pandas as pd
import pytest

from cd4ml.base.errors import Cd4mlError, DataError
from cd4ml.model.problem import check_columns, find_contracts, find_problem


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Return the folder of the problems of a package called `workbench`."""
    folder = tmp_path / "workbench" / "problems"
    folder.mkdir(parents=True)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield folder
    find_problem.cache_clear()


@pytest.mark.parametrize(("code", "line", "got"), [
    ("\nx = = 1\n", ":2", "SyntaxError: invalid syntax"), ("import nowhere_to_be_found\n", ":1", "nowhere_to_be_found"),
    ("x = 1\n", "", "has no attribute 'PROBLEM'"), ("\n\n\nx = 1 / 0\n", ":4", "ZeroDivisionError"),
    ("from cd4ml.problems.iris import PROBLEM\n", "", "one called 'iris'")],
    ids=["syntax", "import", "nothing", "code", "name"])
def test_a_module_that_cannot_be_used_is_an_error_that_names_its_line(package, request, code, line, got):
    name = f"broken_{request.node.callspec.id}"  # a module is imported once
    (package / f"{name}.py").write_text(code)
    with pytest.raises(Cd4mlError) as error:
        find_problem(name, "workbench")
    assert error.value.where.endswith(f"workbench/problems/{name}.py{line}")
    assert got in error.value.got
    assert f"nbs/problems/{name}.ipynb" in error.value.fix


def test_an_unknown_task_is_told_with_the_nearest(package):
    (package / "weather.py").write_text("from dataclasses import replace\n"
                                        "from cd4ml.problems.iris import PROBLEM as one\n"
                                        "PROBLEM = replace(one, name='weather', task='regresion')\n")
    with pytest.raises(Cd4mlError, match=r"unknown task 'regresion'.*Did you mean 'regression'"):
        find_problem("weather", "workbench")


def test_a_dataset_without_a_contract_is_refused():
    iris = find_problem("iris")
    assert {*find_contracts(iris)} == {"iris", "rows"}
    with pytest.raises(DataError, match=r"none of iris\."):
        find_contracts(replace(iris, contracts=lambda: {"rows": None}))
    with pytest.raises(DataError, match=r"none of rows\."):
        find_contracts(replace(iris, contracts=lambda: {"iris": None}))


def test_columns_that_no_row_has_are_all_told_before_a_model_is_trained():
    iris = replace(find_problem("iris"), unit="garden", slices=("specie",))
    rows = pd.DataFrame(columns=[*iris.features, "species"])
    with pytest.raises(DataError, match=r"slices: 'specie', unit: 'garden'.*Did you mean 'species'"):
        check_columns(iris, rows)
    check_columns(replace(iris, unit=None, slices=("species",)), rows)
