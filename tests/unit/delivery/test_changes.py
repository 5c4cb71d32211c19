"""How changes are told: in a sentence, as rows of text, and as a page that nothing in them can break."""

import pytest

from cd4ml.data.drift import FeatureDrift
from cd4ml.delivery.cells import CellChange
from cd4ml.delivery.changes import (
    Change,
    Changes,
    compare_values,
    summarise_changes,
    tell_drift,
    tell_metrics,
    tell_rules,
)
from cd4ml.model.evaluation import Interval


def compare(**parts):
    return Changes("release 2", "release 1", **parts)


@pytest.mark.parametrize(("before", "after", "expected"), [
    ({}, {}, ()), ({}, {"a": 1}, (Change("a", None, 1),)), ({"a": 1}, {}, (Change("a", 1, None),)),
    ({"a": {}}, {"a": {"b": 1}}, (Change("a.b", None, 1), Change("a", {}, None))),
    ({"a": [1, 2]}, {"a": [1, 3]}, (Change("a[1]", 2, 3),))])
def test_values_are_compared_by_their_path(before, after, expected):
    assert compare_values(before, after) == expected


@pytest.mark.parametrize(("changes", "told"), [
    (compare(), "Nothing changed since release 1: "), (compare(notes=("x",)), "as far as can be told"),
    (compare(commit=Change("commit", "a", "b")), "Changed since release 1: the commit."),
    (compare(params=(Change("a", 1, 2),) * 2), "2 parameters."),
    (Changes("run r1", None), "run r1 was judged as the first")])
def test_what_changed_is_said_in_a_sentence(changes, told):
    assert told in summarise_changes(changes)


@pytest.mark.parametrize(("row", "told"), [
    ({"value": 0.5, "low": 0.25, "high": 1.0}, "+0.5 (+0.25 to +1)"), ({"value": 0.0, "low": 0.0, "high": 0.0}, "+0"),
    ({"value": -0.5, "low": None, "high": None}, "undefined")])
def test_a_difference_is_told_with_its_bounds(row, told):
    metric = Change("accuracy", None, Interval(0.9, 0.8, 1.0, 0.95, 60))
    assert tell_metrics(compare(metrics=(metric,), differences={"accuracy": row}))[0][1:] == ("–", "0.90 ± 0.10", told)


@pytest.mark.parametrize(("row", "told"), [
    ({"status": "pass", "value": 160_678.0, "threshold": 50_000.0}, "✔ pass: 160,678, limit 50,000"),
    ({"status": "fail", "value": -0.00042, "threshold": -0.005}, "✘ fail: −0.00042, limit −0.005"),
    ({"status": "inconclusive", "value": None, "threshold": 1}, "? inconclusive"), (None, "–"),
    ({"status": "unheard of", "value": 1, "threshold": 1}, " unheard of: 1, limit 1")])
def test_a_rule_is_told_by_what_was_found(row, told):
    assert tell_rules(compare(rules=(Change("Rule", row, None),))) == [("Rule", told, "–")]


def test_features_that_moved_are_told_the_farthest_first():
    drift = tuple(FeatureDrift(name, psi, 0.0, 0.25, 0, 90, 0.05)
                  for name, psi in (("a", 0.2), ("b", 0.14), ("c", 0.9)))
    told, rows = tell_drift(compare(drift=drift))
    assert told.startswith("2 of 3 features moved")
    assert rows == [("c", "0.90", "0.0% → 25.0%"), ("a", "0.20", "0.0% → 25.0%")]
    assert tell_drift(compare(drift=drift[1:2]))[0].startswith("None of 1 features moved")


def test_lines_that_only_look_like_ends_of_lines_stay_in_their_line():
    page = compare(cells=(CellChange("train", 1, "changed", "+a\u2028-b\x0b-c"),))._repr_html_()
    assert page.count("<ins>") == 1
    assert "<del>" not in page
