"""The timeline of few and of many releases, of undefined metrics, and what it says in words."""

import re

import pytest

from cd4ml.base.errors import DataError
from cd4ml.delivery.manifest import Release
from cd4ml.delivery.timeline import MOST, Point, condense_points, draw_timeline, list_points
from cd4ml.model.evaluation import Interval


def make_point(version, value=0.8, state="served", **limits):
    return Point(version, Interval(value, value - 0.1, value + 0.1, 0.95, 90), state, **limits)


def make_release(version, status="pass", metrics=None, results=()):
    accuracy = {"accuracy": Interval(0.8, 0.7, 0.9, 0.95, 90).to_dict()}
    run = {"metrics": accuracy if metrics is None else metrics,
           "decision": {"status": status, "results": list(results)}}
    return Release("toy", version, "2026-01-02", "binary", "y", (), (), run, {}, None, {})


def test_what_became_of_each_release_and_what_its_gate_asked():
    rules = [{"rule": {"metric": "accuracy", "at_least": 0.7}}, {"rule": {"metric": "accuracy", "margin": 0.1}},
             {"rule": {"metric": "accuracy", "at_least": 0.6, "slices": ["x"]}},
             {"rule": {"metric": "f1", "at_least": 0.1}}]
    releases = [make_release(3, "fail"), make_release(1, results=rules), make_release(2, "inconclusive"),
                make_release(4), make_release(5, metrics={}), make_release(6, metrics={"accuracy": {"value": None}})]
    points = list_points("accuracy", releases, {1, 2})
    assert [(one.version, one.state, one.at_least) for one in points] == [
        (1, "served", 0.7), (2, "served", None), (3, "refused", None), (4, "passed", None)]


@pytest.mark.parametrize(("count", "groups", "drawn"), [(1, 0, 1), (MOST, 0, MOST), (61, 11, 40), (200, 20, 40)])
def test_many_are_put_together_and_the_newest_are_not(count, groups, drawn):
    points = [make_point(i + 1, i / 1000) for i in range(count)]
    found, shown = condense_points(points)
    assert len(shown) == drawn
    assert shown[-1].version == count
    assert len(found) == groups
    covered = [version for one in found for version in range(one.first, one.last + 1)] + [one.version for one in shown]
    assert covered == list(range(1, count + 1))
    assert all(one.low < one.median < one.high for one in found)


@pytest.mark.parametrize("count", [1, 2, 30, 60, 61, 500])
def test_the_drawing_is_small_and_says_what_it_shows(count):
    states = ("served", "passed", "refused")
    points = [make_point(i, 0.8, states[i % 3], at_least=0.7) for i in range(1, count + 1)]
    plot = draw_timeline("accuracy", points, count)
    page = plot._repr_html_()
    assert len(page) < 70_000
    assert page.count("<svg") == 1
    assert plot.caption.startswith(f"{count} release{'s' if count > 1 else ''}: ")
    assert "gate: ≥ 0.7" in page
    assert f"serves now: release {count}" in page
    assert re.search(r'aria-label="How did accuracy go over the releases\?', page)


def test_an_interval_that_is_undefined_has_no_bar():
    point = Point(1, Interval(0.5, float("nan"), float("nan"), 0.95, 9), "passed")
    assert "interval undefined" in draw_timeline("accuracy", [point], None).caption


def test_nothing_cannot_be_drawn():
    with pytest.raises(DataError, match="no release"):
        draw_timeline("accuracy", [], None)
