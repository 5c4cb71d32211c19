"""Results that are missing, of another kind, altered, or recorded under a name that is none."""

import json

import pandas as pd
import pytest

from cd4ml.base.errors import StepError, StoreError
from cd4ml.base.store import Store
from cd4ml.delivery.results import Step, read_record


@pytest.fixture
def make_step(tmp_path):
    """Return a function that makes a step which reads what the folders `before` recorded."""
    def make(name, *before):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        inputs = {key: one for other in before for key, one in read_record(tmp_path / other).items()}
        return Step(name, folder, inputs, Store(str(tmp_path / "data")))

    return make


def test_a_later_step_reads_what_an_earlier_one_recorded(make_step):
    first = make_step("prepare")
    df = pd.DataFrame({"a": [1.0, None], "b": pd.Series(["x", None], dtype="str")})
    first.record_value("share", {"late": 0.25})
    first.record_frame("rows", df)
    first.record_file("curve", b"<svg/>", ".svg")
    second = make_step("train", "prepare")
    assert second.read_value("share") == {"late": 0.25}
    pd.testing.assert_frame_equal(second.read_frame("rows"), df)
    assert second.read_file("curve") == b"<svg/>"
    assert second.has("rows")
    assert not second.has("model")
    assert second.inputs["rows"].about["rows"] == 2


def test_a_name_recorded_twice_holds_the_last(make_step):
    step = make_step("prepare")
    step.record_value("share", 1)
    step.record_value("share", 2)
    assert make_step("train", "prepare").read_value("share") == 2


def test_an_altered_file_is_not_read(make_step, tmp_path):
    make_step("prepare").record_file("curve", b"<svg/>", ".svg")
    (tmp_path / "prepare/curve.svg").write_bytes(b"<svg>!</svg>")
    with pytest.raises(StoreError, match=r"'curve\.svg' is not what was stored"):
        make_step("train", "prepare").read_file("curve")


def test_what_is_missing_or_of_another_kind_is_said(make_step):
    make_step("prepare").record_value("share", 1)
    step = make_step("train", "prepare")
    with pytest.raises(StepError, match=r"No earlier step recorded 'shares'.*Did you mean 'share'"):
        step.read_value("shares")
    with pytest.raises(StepError, match=r"'share' is not a frame.*step\.read_value\('share'\)"):
        step.read_frame("share")


@pytest.mark.parametrize("name", ["", "../evil", "a b", "a-b", "1st"])
def test_a_result_needs_a_name(make_step, tmp_path, name):
    with pytest.raises(StepError, match="cannot name a result"):
        make_step("prepare").record_value(name, 1)
    assert not (tmp_path / "prepare/results.json").exists()


@pytest.mark.parametrize("name", ["../evil", "a/b"])
def test_a_file_with_no_good_name_is_not_written_anywhere(make_step, tmp_path, name):
    with pytest.raises(StepError, match="cannot name a result"):
        make_step("prepare").record_file(name, b"1", ".txt")
    assert not list(tmp_path.rglob("*.txt"))


@pytest.mark.parametrize("value", [float("nan"), {"a": float("inf")}])
def test_a_value_that_json_does_not_know_is_refused(make_step, value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        make_step("prepare").record_value("share", value)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": 2, "results": []}',
                                  '{"format": 1, "results": [{"colour": 1}]}'])
def test_a_damaged_record_is_named(make_step, tmp_path, text):
    make_step("prepare")
    (tmp_path / "prepare/results.json").write_text(text)
    with pytest.raises(StepError, match="The record of a step cannot be read"):
        read_record(tmp_path / "prepare")


def test_a_folder_without_a_record_has_no_results(tmp_path):
    assert read_record(tmp_path) == {}


def test_a_record_says_its_format(make_step, tmp_path):
    make_step("prepare").record_value("share", 1)
    assert json.loads((tmp_path / "prepare/results.json").read_text())["format"] == 1
