import re
import subprocess
import sys
import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest

from cd4ml.base.errors import DataError
from cd4ml.data.drift import FeatureDrift
from cd4ml.model.class_figures import draw_roc_pr, measure_calibration
from cd4ml.model.error_figures import draw_errors
from cd4ml.model.evaluation import Interval, Scored
from cd4ml.model.figures import draw_drift, draw_forest, draw_metrics, draw_slice_differences, group_intervals
from cd4ml.model.slices import Slice

RNG = np.random.default_rng(0)
N = 600
CHANCE = RNG.random(N)
BINARY = Scored(pd.Series(RNG.random(N) < CHANCE),
                pd.DataFrame({"prediction": CHANCE > 0.5, "probability": CHANCE}), "binary")
SHARES = pd.DataFrame(RNG.dirichlet([1, 1, 1], N), columns=[f"probability_{c}" for c in "abc"])
GUESS = np.array(list("abc"))[SHARES.to_numpy().argmax(axis=1)]
MULTICLASS = Scored(pd.Series(RNG.choice(list("abc"), N)), SHARES.assign(prediction=GUESS), "multiclass")
REGRESSION = Scored(pd.Series(CHANCE), pd.DataFrame({"prediction": CHANCE + 0.1}), "regression")


@pytest.mark.parametrize("scored", [BINARY, MULTICLASS, REGRESSION], ids=lambda scored: scored.task)
def test_each_figure_has_its_words_and_is_well_formed(scored):
    for plot in draw_errors(scored):
        html = plot._repr_html_()
        assert plot.title.endswith("?")
        assert plot.caption.endswith(".")
        assert plot.title in html
        ET.fromstring(html)
        assert len(html) < 200_000


@pytest.mark.parametrize("scored", [
    Scored(BINARY.y & False, BINARY.predictions, "binary"),
    Scored(BINARY.y, BINARY.predictions.assign(probability=0.5), "binary"),
    Scored(BINARY.y[:1], BINARY.predictions[:1], "binary"),
    Scored(REGRESSION.y[:1], REGRESSION.predictions[:1], "regression"),
    Scored(pd.Series(GUESS), MULTICLASS.predictions, "multiclass"),
], ids=["one class", "constant", "one row", "one row", "no mistakes"])
@pytest.mark.filterwarnings("error")
def test_degenerate_rows_can_be_drawn(scored):
    assert all(plot._repr_html_() for plot in draw_errors(scored))


@pytest.mark.parametrize("scored", [BINARY, MULTICLASS, REGRESSION], ids=lambda scored: scored.task)
def test_a_figure_drawn_again_has_the_same_bytes(scored):
    for plot in draw_errors(scored):
        first = {kind: plot.to_bytes(kind) for kind in ("svg", "png")}
        plot.drawn.clear()
        assert first == {kind: plot.to_bytes(kind) for kind in first}


def test_one_class_has_no_curve():
    with pytest.raises(DataError, match="Only one class"):
        draw_roc_pr(Scored(BINARY.y & False, BINARY.predictions, "binary"))


def test_nothing_to_draw():
    for draw in (lambda: draw_forest({}, "How?", "x"), lambda: draw_drift([])):
        with pytest.raises(DataError):
            draw()


def test_undefined_intervals_are_drawn_as_gaps():
    nan = float("nan")
    undefined = Interval(nan, nan, nan, 0.95, 1)
    assert "undefined" in draw_metrics({"roc_auc": undefined}).caption
    assert draw_forest({"a": undefined}, "How?", "x").caption == "Undefined in each."


def test_drift_ranks_and_names():
    plot = draw_drift([FeatureDrift("a", 0.1, 0, 0, 0, 900), FeatureDrift("b", 0.3, 0, 0, 0, 900)])
    assert plot.caption == "1 of 2 features moved: b."
    plot = draw_drift([FeatureDrift("a", 0.1, 0, 0, 0, 9), FeatureDrift("b", 0.3, 0, 0, 0, 9, noise=0.4)])
    assert plot.caption == "0 of 2 features moved. Beyond 0.2 without an alarm: 1."


def test_calibration_counts_every_row():
    table = measure_calibration(BINARY)
    assert table["n"].sum() == N
    assert (table["low"] <= table["actual"]).all()
    assert (table["high"] <= 1).all()


def test_no_pyplot():
    code = "import sys, cd4ml.model.figures as f\n"
    code += "f.make_figure('?', 2, 2); sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("scored", [BINARY, MULTICLASS, REGRESSION], ids=lambda scored: scored.task)
def test_a_figure_takes_the_colours_of_its_page(scored):
    for plot in draw_errors(scored):
        html = plot._repr_html_()
        assert not re.search(r"(fill|stroke): #(000000|ffffff|333333|0072b2)", html), "black, white or the accent"
        assert "currentColor" in html
        assert "min-width" in html
        assert "font-family" not in html
        assert "<style" not in html, "a style in a drawing would hold for the whole page"


def test_a_cloud_of_many_points_stays_small():
    many = Scored(pd.Series(RNG.normal(size=50_000)), pd.DataFrame({"prediction": RNG.normal(size=50_000)}),
                  "regression")
    assert sum(len(plot._repr_html_()) for plot in draw_errors(many)) < 400_000


def interval(value, n=500):
    return Interval(value, value - 0.1, value + 0.1, 0.95, n)


def test_slices_stand_in_groups_and_the_worst_are_kept():
    differences = {f"carrier {i:02}": interval(i / 100) for i in range(-15, 25)}
    slices = [Slice("carrier", name.split()[1], np.arange(3)) for name in differences]
    plot = draw_slice_differences(group_intervals(differences, slices, interval(0.5)), "roc_auc", 0.2, ["carrier 24"])
    html = plot._repr_html_()
    assert ">all rows<" in html
    assert ">carrier<" in html
    assert ">-15<" in html
    assert ">23<" not in html
    assert ">▼ 24<" in html, "a flagged slice is shown whatever its value"
    assert "11 more slices" in plot.caption
    assert "worse: 5." in plot.caption
    assert "(dotted): 6" in plot.caption
    assert "▼ worse beyond chance, corrected for their number: carrier 24." in plot.caption


def test_a_forest_ends_at_thirty_rows():
    plot = draw_forest({f"g{i}": interval(0, i + 1) for i in range(40)}, "How?", "x")
    assert "10 more, of fewer rows, are not drawn." in plot.caption
    assert ">g39<" in plot._repr_html_()
    assert ">g0<" not in plot._repr_html_()


def test_differences_of_no_slice_are_refused_and_undefined_ones_drawn():
    with pytest.raises(DataError):
        draw_slice_differences({"": {}}, "roc_auc")
    nan = float("nan")
    plot = draw_slice_differences({"a": {"b": Interval(nan, nan, nan, 0.95, 1)}}, "roc_auc", 0.1)
    assert "(dotted): 1" in plot.caption
    assert "undefined" in plot._repr_html_()
