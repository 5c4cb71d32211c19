import numpy as np
import pandas as pd
import pytest

from cd4ml.model.evaluation import Resampling, Scored, evaluate_predictions
from cd4ml.model.slices import cut_slices, evaluate_slices, find_segments, measure_gap, select_rows

RNG = np.random.default_rng(0)


def make(rows: int = 4000, bad: float = 3.0, unit: bool = False):
    X = pd.DataFrame({"place": RNG.choice(["a", "b", "c", None], rows), "size": RNG.normal(size=rows)})
    wrong = RNG.normal(size=rows) * np.where((X["place"] == "b") & (X["size"] > 0.5), bad, 1)
    day = pd.Series(RNG.integers(0, 40, rows)) if unit else None
    return X, Scored(pd.Series(wrong), pd.DataFrame({"prediction": np.zeros(rows)}), "regression", day)


@pytest.mark.parametrize("unit", [False, True])
def test_a_slice_is_measured_as_it_would_be_alone(unit):
    X, scored = make(unit=unit)
    slices = cut_slices(X, ["place"])
    found = evaluate_slices(scored, slices, "rmse", Resampling(resamples=2000))
    for one in slices:
        alone = evaluate_predictions(select_rows(scored, one.rows), ["rmse"], Resampling(resamples=2000))["rmse"]
        mine = found[one.label]
        assert np.isclose(mine.value, alone.value)
        assert (mine.n, mine.units) == (alone.n, alone.units)
        assert np.isclose(mine.high - mine.low, alone.high - alone.low, rtol=0.15)


def test_numbers_with_many_values_are_cut_into_quarters_in_their_order():
    X, _ = make()
    values = [one.value for one in cut_slices(X, ["size"])]
    assert len(values) == 4
    assert [float(value[1:].split(",")[0]) for value in values] == sorted(float(v[1:].split(",")[0]) for v in values)


def test_the_weak_segment_is_found_and_measured_on_rows_not_used_to_find_it():
    X, scored = make()
    segments, rest = find_segments(scored, X)
    assert segments[0].value.startswith("place is b, size > 0.") or segments[0].value.startswith("size > 0.")
    assert set(segments[0].rows) <= set(rest.rows)
    assert 0.4 < len(rest.rows) / len(X) < 0.6
    found = evaluate_slices(scored, [segments[0], rest], "rmse")
    assert found[segments[0].label].low > found[rest.label].value


def test_chance_is_not_a_segment():
    lows = []
    for _ in range(10):
        X, scored = make(bad=1.0)
        segments, rest = find_segments(scored, X)
        found = evaluate_slices(scored, [*segments[:1], rest], "rmse")
        lows.append(found[segments[0].label].low > found[rest.label].value if segments else False)
    assert sum(lows) <= 2


def test_segments_need_rows_and_keep_units_together():
    X, scored = make(300)
    assert find_segments(scored, X)[0] == []
    X, scored = make(unit=True)
    _, rest = find_segments(scored, X)
    seen = np.setdiff1d(np.arange(len(X)), rest.rows)
    assert not set(scored.unit.iloc[seen]) & set(scored.unit.iloc[rest.rows])


def test_the_gap_of_equal_slices_is_small_and_of_unequal_ones_is_found():
    X, scored = make(bad=1.0)
    slices = cut_slices(X, ["place"])
    assert measure_gap(scored, slices, "rmse").upper < 0.2
    X, scored = make(bad=6.0)
    assert measure_gap(scored, cut_slices(X, ["place"]), "rmse").lower > 0.5


def test_values_of_several_types_are_slices():
    found = cut_slices(pd.DataFrame({"x": pd.Series(["a", 1, None, 2.5, "a", True], dtype=object)}), ["x"])
    assert {one.value: len(one.rows) for one in found} == {"(missing)": 1, "a": 2, "1": 1, "2.5": 1, "True": 1}
