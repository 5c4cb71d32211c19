import numpy as np
import pandas as pd
import pytest

from cd4ml.base.errors import DataError
from cd4ml.model.class_figures import count_confusions, draw_class_curves, draw_confusion, draw_costs, measure_costs
from cd4ml.model.error_figures import draw_coverage, draw_errors, draw_residuals_by_time, measure_coverage
from cd4ml.model.evaluation import Scored

RNG = np.random.default_rng(0)
DAYS = pd.Series(pd.date_range("2020-01-01", periods=400, freq="D"))


def score_binary(y, probability):
    chance = pd.Series(probability, dtype=float)
    return Scored(pd.Series(y), pd.DataFrame({"prediction": chance > 0.5, "probability": chance}), "binary")


def score_classes(y, shares):
    names = [name.removeprefix("probability_") for name in shares]
    guess = np.array(names)[shares.to_numpy().argmax(axis=1)]
    return Scored(pd.Series(y), shares.assign(prediction=guess), "multiclass")


def score_regression(y, guess, unit=None):
    return Scored(pd.Series(y, dtype=float), pd.DataFrame({"prediction": np.asarray(guess, dtype=float)}), "regression",
                  unit)


def cut(scored, rows):
    return Scored(scored.y[:rows], scored.predictions[:rows], scored.task)


CHANCE = RNG.random(400)
BINARY = score_binary(RNG.random(400) < CHANCE, CHANCE)
SHARES = pd.DataFrame(RNG.dirichlet([1, 1, 1], 400), columns=[f"probability_{name}" for name in "abc"])
CLASSES = score_classes(RNG.choice(list("abc"), 400), SHARES)
REGRESSION = score_regression(CHANCE + RNG.normal(size=400), CHANCE)


def test_dates_with_a_time_zone_are_drawn_as_they_are_read():
    plot = draw_residuals_by_time(REGRESSION, DAYS.dt.tz_localize("America/Sao_Paulo"))
    assert plot.caption == draw_residuals_by_time(REGRESSION, DAYS).caption


def test_classes_of_several_types_are_counted():
    y = pd.Series(["a", 1, None], dtype=object).fillna(2.5)
    names, counts = count_confusions(Scored(y, pd.DataFrame({"prediction": y}), "multiclass"))
    assert sorted(names) == ["1", "2.5", "a"]
    assert counts.trace() == 3


def test_a_dollar_in_a_name_is_drawn_as_one():
    names = ["$5_{$", "a$b$_", "c"]
    shares = SHARES.set_axis([f"probability_{name}" for name in names], axis=1)
    for plot in draw_errors(score_classes(RNG.choice(names, 400), shares)):
        assert plot.to_bytes("svg")
    assert b"$5_{$" in draw_confusion(score_classes(RNG.choice(names, 400), shares)).to_bytes("svg")


@pytest.mark.parametrize("rows", [1, 5, 45])
@pytest.mark.parametrize("scored", [BINARY, CLASSES, REGRESSION], ids=lambda scored: scored.task)
@pytest.mark.filterwarnings("error")
def test_holdouts_of_any_size_are_drawn_with_words(scored, rows):
    plots = draw_errors(cut(scored, rows), unit="km", when=DAYS[:rows])
    assert len(plots) >= 3
    for plot in plots:
        assert plot.title.endswith("?")
        assert plot.caption.endswith(".")
        assert "nan" not in plot.caption
        assert len(plot.alt) > 20
        assert f'aria-label="{plot.alt[:10]}' in plot._repr_html_()


@pytest.mark.parametrize("scored", [
    score_binary([False] * 50, CHANCE[:50]), score_binary([True] * 50, [0.5] * 50),
    score_classes(["a"] * 50, SHARES[:50]), score_classes(["a", "b"] * 25, SHARES[:50] * 0 + 1 / 3),
    score_regression([3] * 50, [3] * 50), score_regression(range(50), [3] * 50),
], ids=["one class", "constant", "one of three classes", "constant of three", "constant truth", "constant guess"])
@pytest.mark.filterwarnings("error")
def test_degenerate_rows_can_be_drawn(scored):
    assert all("nan" not in plot.caption for plot in draw_errors(scored, when=DAYS[:50]))


def test_what_cannot_be_drawn_says_so():
    one = score_binary([False] * 50, CHANCE[:50])
    for draw in (lambda: draw_costs(one), lambda: draw_class_curves(score_classes(["a"] * 50, SHARES[:50])),
                 lambda: draw_coverage(cut(REGRESSION, 39)), lambda: draw_residuals_by_time(REGRESSION, DAYS[:5]),
                 lambda: draw_residuals_by_time(REGRESSION, pd.Series(range(400)))):
        with pytest.raises(DataError):
            draw()


def test_costs_are_those_of_counted_mistakes():
    scored = score_binary([True, True, False, False], [0.9, 0.4, 0.6, 0.1])
    thresholds, costs = measure_costs(scored, 3)
    for threshold, cost in zip(thresholds, costs, strict=True):
        positive = scored.predictions["probability"] > threshold
        wrong = 3 * (scored.y & ~positive).sum() + (~scored.y & positive).sum()
        assert cost == pytest.approx(250 * wrong)


def test_the_cheapest_threshold_of_a_calibrated_model_is_where_theory_says():
    chance = np.random.default_rng(1).random(200_000)
    scored = score_binary(np.random.default_rng(2).random(200_000) < chance, chance)
    for ratio in (1, 2, 5):
        thresholds, costs = measure_costs(scored, ratio)
        assert thresholds[costs.argmin()] == pytest.approx(1 / (1 + ratio), abs=0.04)
    assert "A calibrated model has it at 0.33" in draw_costs(scored, 2).caption


def test_a_class_that_is_known_for_sure_is_the_easiest():
    y = RNG.choice(list("abc"), 400)
    shares = SHARES.assign(probability_b=(y == "b") * 1.0)
    plot = draw_class_curves(score_classes(y, shares))
    assert "easiest: b (1.00)" in plot.caption
    assert "No curve for c" in draw_class_curves(score_classes(["a", "b"] * 200, SHARES)).caption


def test_many_classes_are_summed_up():
    names = [f"k{i:02}" for i in range(30)]
    y = RNG.choice(names, 3000)
    shares = pd.DataFrame(RNG.dirichlet([1] * 30, 3000), columns=[f"probability_{name}" for name in names])
    scored = score_classes(y, shares)
    labels, counts = count_confusions(scored)
    assert len(labels) == 12
    assert counts.sum() == 3000
    assert f"{(scored.predictions['prediction'] == y).sum()} of 3,000" in draw_confusion(scored).caption
    assert len(draw_confusion(scored)._repr_html_()) < 100_000
    assert "not drawn: 24" in draw_class_curves(scored).caption


def test_coverage_is_what_it_promises_and_finds_uneven_errors():
    guess = np.random.default_rng(3).uniform(1, 10, 4000)
    even, uneven = (score_regression(guess + np.random.default_rng(4).normal(0, s, 4000), guess) for s in (1, guess))
    assert measure_coverage(even)["all"].tolist() == pytest.approx(np.linspace(0.1, 0.9, 9), abs=0.05)
    assert measure_coverage(even)["width"].iloc[7] == pytest.approx(1.28, abs=0.1)
    assert draw_coverage(even).caption.endswith("One width suits both.")
    assert draw_coverage(uneven).caption.endswith("One width does not suit both.")
    row = measure_coverage(uneven).iloc[7]
    assert row["lowest"] > 0.95
    assert row["highest"] < 0.65


def test_the_band_of_coverage_holds_what_chance_gives_as_often_as_it_says():
    inside = []
    for seed in range(200):
        scored = score_regression(np.random.default_rng(seed).normal(size=200), np.zeros(200))
        table = measure_coverage(scored, seed)
        inside.append(table["low"].iloc[4] <= table["all"].iloc[4] <= table["high"].iloc[4])
    assert 0.92 <= np.mean(inside) <= 0.99


def test_coverage_halves_units_and_not_rows():
    unit = pd.Series(np.repeat(np.arange(50), 8))
    few = measure_coverage(score_regression(REGRESSION.y, CHANCE, unit))
    many = measure_coverage(REGRESSION)
    assert (few["high"] - few["low"]).iloc[4] > 2 * (many["high"] - many["low"]).iloc[4]


def test_a_time_at_which_it_is_off_is_named():
    y = np.where((DAYS >= "2020-06-01") & (DAYS < "2020-08-01"), -5.0, 0.0)
    plot = draw_residuals_by_time(score_regression(y, np.zeros(400)), DAYS.where(DAYS.index != 3), "km")
    assert "by −5, between 2020-0" in plot.caption
    assert "1 rows without a date" in plot.caption
    shuffled = DAYS.sample(frac=1, random_state=0).reset_index(drop=True)
    assert "+0" in draw_residuals_by_time(score_regression(np.zeros(400), np.zeros(400)), shuffled).caption
