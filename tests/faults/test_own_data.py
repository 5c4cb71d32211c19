"""A workbench with a package and a data file of its own: what is missing, altered or breaks its contract."""

import hashlib
import shutil

import pytest

pytestmark = pytest.mark.slow

PROBLEM = '''
import pandas as pd
from cd4ml.data.catalog import Dataset
from cd4ml.model.problem import Problem
from cd4ml.model.split import split_at_random

FILE = Dataset("sales", "data/sales.csv", "csv", "{sha256}", "the shop", "what was sold", "CC0")


def make_contracts():
    import pandera.pandas as pa

    schema = pa.DataFrameSchema({{"size": pa.Column(float, pa.Check.in_range(0, 100)), "price": pa.Column(float)}})
    return {{"sales": schema, "rows": schema}}


def build_model(params):
    from sklearn.linear_model import LinearRegression

    return LinearRegression()


PROBLEM = Problem("shop", "Shop", "What a thing will cost.", "regression", "price", ("size",), (FILE,), make_contracts,
                  lambda frames, params: frames["sales"],
                  lambda rows, params: split_at_random(rows, 0.3, params.seed), build_model, metrics=("rmse",))
'''


@pytest.fixture
def shop(workbench):
    """Return a workbench whose package `shop` has one problem on a CSV file of its own."""
    folder = workbench.folder
    shutil.rmtree(folder / "params")
    (folder / "pyproject.toml").write_text('[project]\nname = "shop"\n')
    (folder / "shop/problems").mkdir(parents=True)
    (folder / "shop/__init__.py").touch()
    (folder / "shop/problems/__init__.py").touch()
    (folder / "params/shop").mkdir(parents=True)
    (folder / "params/shop/default.yaml").write_text("evaluate:\n  rules:\n    - {metric: rmse, at_most: 5}\n")
    workbench.environ["PYTHONPATH"] = str(folder)
    write_sales(workbench, [f"{i % 90},{2 * (i % 90) + i % 7}" for i in range(400)])
    return workbench


def write_sales(workbench, lines, is_recorded=True):
    path = workbench.folder / "data/sales.csv"
    path.parent.mkdir(exist_ok=True)
    path.write_text("size,price\n" + "\n".join(f"{float(a)},{float(b)}" for a, b in (x.split(",") for x in lines)))
    if is_recorded:
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        (workbench.folder / "shop/problems/shop.py").write_text(PROBLEM.format(sha256=sha256))


def test_a_workbench_of_ones_own_delivers_and_notices_changed_code(shop):
    outcome = shop.call_json("release", "shop")
    assert (outcome["decision"], outcome["promoted"]) == ("pass", True)
    module = shop.folder / "shop/problems/shop.py"
    module.write_text(module.read_text() + "\n# a comment\n")
    assert {step["status"] for step in shop.call_json("run", "shop")["steps"]} == {"cached"}
    module.write_text(module.read_text().replace("0.3", "0.4"))
    assert {step["status"] for step in shop.call_json("run", "shop")["steps"]} == {"ran"}


def test_an_altered_dataset_is_refused_before_anything_runs(shop):
    write_sales(shop, ["1,2", "3,4"], is_recorded=False)
    code, _, err = shop.call("run", "shop")
    assert code == 2
    assert "Dataset 'sales' is not the one that was recorded (data/sales.csv). Expected: sha256" in err
    assert "Got: sha256" in err
    assert not shop.call_json("data", "check", "shop", code=2)["ok"]


def test_a_missing_dataset_is_named(shop):
    (shop.folder / "data/sales.csv").unlink()
    code, _, err = shop.call("run", "shop")
    assert code == 2
    assert "Dataset 'sales' is missing (data/sales.csv)" in err


def test_a_contract_breach_lists_all_violations_with_counts(shop):
    write_sales(shop, [*(f"{i},{i}" for i in range(90)), "150,1", "-3,1", "nan,1"])
    code, _, err = shop.call("run", "shop")
    assert code == 2
    assert "ContractError" in err
    assert "150" in err
    assert "-3" in err
    checked = shop.call_json("data", "check", "shop", code=2)
    message = checked["datasets"][0]["message"]
    assert "size" in message


