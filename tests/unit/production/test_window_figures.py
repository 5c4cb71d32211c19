"""Figures of windows of any shape: nothing is drawn over, left out silently, or empty."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from cd4ml.base.errors import DataError
from cd4ml.data.drift import measure_drift
from cd4ml.data.profile import profile_frame
from cd4ml.delivery.manifest import Release
from cd4ml.model.evaluation import Interval
from cd4ml.model.metrics import find_metrics
from cd4ml.production.monitoring import Baseline, summarise_window
from cd4ml.production.window_figures import (
    draw_ages,
    draw_latency,
    draw_rates,
    draw_shifts,
    draw_time,
    draw_volume,
    list_drift,
)

RELEASE = Release("toy", 3, "2026-01-02", "regression", "y", (), (), {}, {}, None, {})
RNG = np.random.default_rng(5)


def report_on(n: int, every: str, releases: int = 1, promised: bool = True):
    turn = np.minimum(np.arange(n) * releases // n, releases - 1)
    log = pd.DataFrame({
        "prediction_id": [f"p{i}" for i in range(n)], "request_id": [f"r{i}" for i in range(n)], "role": "champion",
        "seconds": 0.003, "at": pd.date_range("2013-07-01", periods=n, freq=every, tz="UTC"),
        "release": 3 - releases + 1 + turn, "prediction": RNG.normal(300, 40, n), "x": RNG.normal(size=n)})
    told = {f"p{i}": float(value) for i, value in enumerate(log["prediction"] + RNG.normal(0, 20, n))}
    baseline = Baseline(RELEASE, profile_frame(log[["x"]]), profile_frame(log[["prediction"]]),
                        {"rmse": Interval(20, 19, 21, 0.95, 900)} if promised else {},
                        tuple(find_metrics(["rmse"], "regression")))
    return summarise_window(log, told, baseline)


def find_overlaps(plot) -> list[str]:
    """Return the pairs of texts in the figure that lie over each other."""
    plot.figure.canvas.draw()
    boxes = []
    for ax in plot.figure.axes:
        (left, right), (low, high) = sorted(ax.get_xlim()), sorted(ax.get_ylim())
        ticks = [one for one in ax.get_xticklabels() if left <= one.get_position()[0] <= right]
        ticks += [one for one in ax.get_yticklabels() if low <= one.get_position()[1] <= high]
        shown = [one for one in (*ax.texts, *ticks) if one.get_text() and ax.get_visible()]
        boxes += [(one.get_text(), one.get_window_extent()) for one in shown]
    return [f"{a} / {b}" for i, (a, one) in enumerate(boxes) for b, other in boxes[i + 1 :]
            if min(one.x1, other.x1) - max(one.x0, other.x0) > 1 and min(one.y1, other.y1) - max(one.y0, other.y0) > 1]


@pytest.mark.parametrize(("n", "every", "releases"), [
    (300, "1min", 1), (600, "20min", 3), (2000, "1h", 3), (900, "12h", 3)])
def test_figures_over_time_have_no_labels_that_overlap(n, every, releases):
    report = report_on(n, every, releases)
    for draw in (draw_volume, draw_time, draw_rates, draw_ages, draw_latency):
        plot = draw(report)
        assert find_overlaps(plot) == [], plot.title
        assert plot.caption
        assert plot._repr_html_().startswith("<figure")


def test_releases_that_follow_each_other_closely_are_named_apart():
    report = report_on(2000, "1h", 3)
    turns = tuple((f"2013-07-{day:02}", day) for day in range(1, 12))
    plot = draw_volume(replace(report, traffic=replace(report.traffic, turns=turns)))
    assert find_overlaps(plot) == []
    named = {one.get_text() for one in plot.figure.axes[0].texts}
    assert "release 11" in named, "the newest one"
    assert len(named) >= 3


def test_without_a_promise_there_is_no_band():
    plot = draw_time(report_on(900, "1h", promised=False))
    assert "promised" not in plot.caption
    assert len(plot.figure.axes[0].patches) == 0


@pytest.mark.parametrize("now", [
    {"x": RNG.normal(size=300), "c": "a"}, {"x": None, "c": None}, {"x": "text", "c": "something long and never seen"},
    {"x": [np.inf] * 150 + [0.0] * 150, "c": 1}])
def test_shifts_of_any_values_are_drawn(now):
    then = pd.DataFrame({"x": RNG.normal(size=900), "c": RNG.choice(list("ab"), 900), "few": RNG.integers(0, 3, 900)})
    rows = pd.DataFrame({**now, "few": 2.0}, index=range(300))
    profile = profile_frame(then)
    plot = draw_shifts(measure_drift(profile, rows), profile, rows, {"x": "m"}, "How are they spread?")
    assert find_overlaps(plot) == []
    assert [ax.get_title("left") for ax in plot.figure.axes if ax.get_visible()] == ["x [m]", "c", "few"]
    assert ("Missing" in plot.caption) == (now["c"] is None)


def test_a_profile_of_the_first_format_is_drawn_from_its_bins():
    then = pd.DataFrame({"x": RNG.normal(size=900)})
    data = profile_frame(then).to_dict()
    for name in ("points", "below", "distinct", "correlation", "spread"):
        del data["features"][0][name]
    old = type(profile_frame(then)).from_dict({"format": 1, "rows": 900, "features": data["features"]})
    plot = draw_shifts(measure_drift(old, then), old, then, {}, "How are they spread?")
    assert len(plot.figure.axes[0].patches) > 0


def test_what_is_not_there_is_refused():
    with pytest.raises(DataError, match="nothing to draw"):
        draw_shifts((), profile_frame(pd.DataFrame({"x": [1]})), pd.DataFrame(), {}, "Which?")


def test_the_table_folds_away_and_names_all():
    text = list_drift(report_on(900, "1h"))
    assert text.startswith("<details>")
    assert "<th scope='row'>x</th>" in text
    assert "prediction (answer)" in text
