"""The catalog page tells what each dataset promises, and why it could not be read."""

from dataclasses import replace

import pandera.pandas as pa
import pytest

from cd4ml.delivery.catalog_page import (
    describe_dataset,
    describe_rows,
    identify_data,
    make_catalog_page,
    render_contract,
)
from cd4ml.model.problem import find_problem

IRIS = find_problem("iris")


def test_a_contract_is_told_by_column_in_words():
    schema = pa.DataFrameSchema({"<a>": pa.Column(float, pa.Check.gt(0), nullable=True, unique=True),
                                 "b": pa.Column(required=False)}, unique=["<a>", "b"])
    page = render_contract(schema)
    assert '<th scope="row">&lt;a&gt;</th><td>float64</td><td>allowed</td>' in page
    assert "<td>must be above 0; must be unique</td>" in page
    assert "<td>any</td><td>no</td><td>may be absent</td>" in page
    assert "Rows are unique by &lt;a&gt;, b." in page


@pytest.mark.parametrize(("changes", "fault"), [
    ({"location": "nowhere.csv"}, "Dataset 'iris' cannot be read"), ({"loader": "sql"}, "It lies elsewhere"),
    ({"sha256": "0" * 64}, "is not the one that was recorded"),
    ({"location": "s3://bucket/iris.csv"}, "It lies elsewhere")])
def test_a_dataset_that_cannot_be_read_says_why(tmp_path, changes, fault):
    entry = describe_dataset(IRIS, replace(IRIS.datasets[0], **changes), tmp_path)
    assert fault in entry.fault
    assert entry.profile is None
    assert fault in make_catalog_page([entry], []).decode().replace("&#39;", "'")


def test_the_page_shows_every_fact_escaped(tmp_path):
    dataset = replace(IRIS.datasets[0], owner="<ada>", description="a & b")
    entry = describe_dataset(IRIS, dataset, tmp_path)
    assert entry.rows == 150
    page = make_catalog_page([entry], [describe_rows(IRIS, 3, None), describe_rows(IRIS, None, None)]).decode()
    for text in ("&lt;ada&gt;", "a &amp; b", dataset.sha256, dataset.licence, "package://sklearn", "150",
                 "sepal_length", "The bundle of the champion does not hold one.", "No release serves yet."):
        assert text in page
    assert "<ada>" not in page


def test_the_catalog_is_another_one_if_anything_of_it_is():
    assert identify_data([IRIS]) == identify_data([IRIS])
    other = replace(IRIS, datasets=(replace(IRIS.datasets[0], owner="ada"),))
    assert identify_data([other]) != identify_data([IRIS])
