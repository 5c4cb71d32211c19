"""A workbench with a package and a data file of its own: what is missing, altered or breaks its contract."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from cd4ml.delivery.cache import hash_code

pytestmark = pytest.mark.slow

PROBLEM = '''
import pandas as pd
from cd4ml.data.catalog import Dataset
from cd4ml.model.problem import Problem
from cd4ml.model.split import split_at_random
from shop.cleaning import clean_sales

FILE = Dataset("sales", "data/sales.csv", "csv", "{sha256}", "the shop", "what was sold", "CC0")


def make_contracts():
    import pandera.pandas as pa

    schema = pa.DataFrameSchema({{"size": pa.Column(float, pa.Check.in_range(0, 100)), "price": pa.Column(float)}})
    return {{"sales": schema, "rows": schema}}


def build_model(params):
    from sklearn.linear_model import LinearRegression

    return LinearRegression()


PROBLEM = Problem("shop", "Shop", "What a thing will cost.", "regression", "price", ("size",), (FILE,), make_contracts,
                  lambda frames, params: clean_sales(frames["sales"]),
                  lambda rows, params: split_at_random(rows, 0.3, params.seed), build_model, metrics=("rmse",))
'''


CLEANING = "def clean_sales(df):\n    return df[df['size'] >= 0]\n"


@pytest.fixture
def shop(workbench):
    """Return a workbench whose package `shop` has one problem on a CSV file of its own."""
    folder = workbench.folder
    shutil.rmtree(folder / "params")
    (folder / "pyproject.toml").write_text('[project]\nname = "shop"\n')
    (folder / "shop/problems").mkdir(parents=True)
    (folder / "shop/__init__.py").touch()
    (folder / "shop/cleaning.py").write_text(CLEANING)
    (folder / "shop/aside.py").write_text("LIMIT = 1\n")
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


def read_statuses(run):
    return [step["status"] for step in run["steps"]]


def explain(shop):
    return shop.call_json("run", "shop", "--explain")["steps"][0]["because"]


def test_a_workbench_of_ones_own_delivers_and_notices_what_changed(shop):
    outcome = shop.call_json("release", "shop")
    assert (outcome["decision"], outcome["promoted"]) == ("pass", True)

    module = shop.folder / "shop/problems/shop.py"
    module.write_text(module.read_text() + "\n# a comment\n")
    (shop.folder / "shop/aside.py").write_text("LIMIT = 2\n")  # no step reaches it
    assert read_statuses(shop.call_json("run", "shop")) == ["cached"] * 3

    module.write_text(module.read_text().replace("0.3", "0.4"))
    assert explain(shop) == ["project: shop.problems.shop changed"]
    assert read_statuses(shop.call_json("run", "shop")) == ["ran"] * 3

    (shop.folder / "shop/cleaning.py").write_text(CLEANING.replace(">= 0", "> 0"))
    assert explain(shop) == ["project: shop.cleaning changed"]
    assert read_statuses(shop.call_json("run", "shop")) == ["ran"] * 3

    write_sales(shop, [f"{i % 90},{3 * (i % 90) + i % 7}" for i in range(400)])
    assert "data: sales changed" in explain(shop)
    assert read_statuses(shop.call_json("run", "shop")) == ["ran"] * 3
    assert read_statuses(shop.call_json("run", "shop")) == ["cached"] * 3


def test_code_edited_while_a_step_runs_is_never_taken_for_what_ran(shop):
    """The prepare notebook edits code, as its author might meanwhile; the train notebook says which code it ran."""
    path = shop.folder / "shop/cleaning.py"
    path.write_text(CLEANING + "WHICH = 'old'\n")

    def edit_code(notebook):
        notebook["cells"][-1]["source"] += ["\nfrom pathlib import Path\n", f"path = Path({str(path)!r})\n",
                                            "path.write_text(path.read_text().replace('old', 'new'))"]

    def say_which(notebook):
        notebook["cells"][-1]["source"] += ["\nfrom shop.cleaning import WHICH\n", "print('the code is', WHICH)"]

    shop.edit_notebook("prepare", edit_code)
    shop.edit_notebook("train", say_which)
    step = shop.call_json("run", "shop")["steps"][1]
    executed = "".join(str(cell.get("outputs")) for cell in read_cells(Path(step["folder"]) / "train.ipynb"))
    kept = json.loads((Path(step["folder"]) / "ingredients.json").read_text())["project"]["shop.cleaning"]
    assert ("the code is new" in executed) == (kept == hash_code(path.read_text()))


def read_cells(path):
    return json.loads(path.read_text())["cells"]


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




MARGIN = "evaluate:\n  rules:\n    - {metric: rmse, margin: 1.0}\n"


def rename_feature(shop, name):
    """Let the shop's rows call their one feature `name`, in the contract, the cleaning and the problem."""
    module = shop.folder / "shop/problems/shop.py"
    text = module.read_text().replace('("size",)', f'("{name}",)').replace(
        '"rows": schema', f'"rows": schema.rename_columns({{"size": "{name}"}})')
    module.write_text(text)
    (shop.folder / "shop/cleaning.py").write_text(
        CLEANING.replace("df[df['size'] >= 0]", f"df[df['size'] >= 0].rename(columns={{'size': '{name}'}})"))


def test_a_champion_that_asks_for_what_is_no_longer_there_is_a_reason_and_no_pass(shop):
    (shop.folder / "params/shop/default.yaml").write_text(MARGIN)
    assert shop.call_json("release", "shop")["promoted"] is True
    rename_feature(shop, "width")
    outcome = shop.call_json("release", "shop", code=1)
    assert (outcome["version"], outcome["decision"], outcome["promoted"]) == (2, "inconclusive", False)
    assert "size" in outcome["reason"]
    page = (shop.folder / "releases/shop/2/reports/evaluate.html").read_text()
    assert "the champion cannot be asked" in page
    assert "Traceback (most recent" not in page
    assert shop.call_json("releases", "shop")["champion"] == 1
