"""Distances from a profile beside SciPy's from all rows, and the chances beside tables that SciPy judges."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import chi2_contingency, fisher_exact, ks_2samp, wasserstein_distance

from cd4ml.data.distance import Curve, Sample, measure_chance, measure_distances, measure_excess
from cd4ml.data.drift import correct_level, measure_drift
from cd4ml.data.profile import Profile, profile_frame

RNG = np.random.default_rng(2013)
SHAPES = {
    "normal": lambda n, shift: RNG.normal(shift, 1, n),
    "heavy tail": lambda n, shift: RNG.lognormal(shift, 1, n),
    "two humps": lambda n, shift: np.where(RNG.random(n) < 0.5 + shift / 2, RNG.normal(-4, 1, n), RNG.normal(4, 1, n)),
    "mostly none": lambda n, shift: np.where(RNG.random(n) < 0.6 - shift, 0.0, RNG.gamma(2, 3, n)),
    "few values": lambda n, shift: RNG.binomial(12, 0.4 + shift / 4, n).astype(float),
    "thirds": lambda n, shift: RNG.binomial(12, 0.4 + shift / 4, n) / 3,
    "many values": lambda n, shift: RNG.poisson(900 + 20 * shift, n).astype(float),
    "constant": lambda n, shift: np.full(n, 7.0 + shift),
    "tiny": lambda n, shift: 1e-12 * RNG.normal(shift, 1, n),
    "large": lambda n, shift: 1e9 + RNG.normal(shift, 1, n),
}


@pytest.mark.parametrize("shift", [0.0, 0.3])
@pytest.mark.parametrize("n", [1, 30, 5000])
@pytest.mark.parametrize("name", SHAPES)
def test_distances_are_near_those_of_all_rows(name, n, shift):
    then, now = SHAPES[name](20_000, 0.0), SHAPES[name](n, shift)
    (drift,) = measure_drift(profile_frame(pd.DataFrame({"x": then})), pd.DataFrame({"x": now}))
    assert drift.ks == pytest.approx(ks_2samp(then, now).statistic, abs=0.01)
    assert drift.wasserstein == pytest.approx(wasserstein_distance(then, now), rel=1e-9, abs=0.01 * then.std())
    if then.std():
        assert drift.wasserstein_sd == pytest.approx(drift.wasserstein / then.std())


@pytest.mark.parametrize("name", ["few values", "thirds", "constant"])
def test_distances_of_few_values_are_exact(name):
    then, now = SHAPES[name](20_000, 0.0), SHAPES[name](3000, 0.2)
    (drift,) = measure_drift(profile_frame(pd.DataFrame({"x": then})), pd.DataFrame({"x": now}))
    assert drift.ks == pytest.approx(ks_2samp(then, now).statistic, abs=1e-12)
    assert drift.wasserstein == pytest.approx(wasserstein_distance(then, now), abs=1e-9)


def test_numbers_between_two_remembered_ones_are_not_lost():
    (drift,) = measure_drift(profile_frame(pd.DataFrame({"x": [0.0, 1.0] * 500})),
                             pd.DataFrame({"x": np.linspace(0, 1, 1001)}))
    assert drift.wasserstein == pytest.approx(0.25, abs=1e-3)
    assert drift.ks == pytest.approx(0.5, abs=1e-3)


def test_numbers_that_are_not_finite_do_not_spoil_a_distance():
    then = pd.DataFrame({"x": [*np.arange(500.0), np.inf, np.nan]})
    (drift,) = measure_drift(profile_frame(then), pd.DataFrame({"x": [*np.arange(500.0), -np.inf, None]}))
    assert drift.ks == pytest.approx(0, abs=0.01)
    (gone,) = measure_drift(profile_frame(then), pd.DataFrame({"x": [None, None]}))
    assert (gone.ks, gone.wasserstein, gone.missing_now) == (None, None, 1)


def test_categories_have_the_distance_that_scipy_gives():
    then, now = RNG.choice(list("abcd"), 5000), RNG.choice(list("abde"), 800)
    (drift,) = measure_drift(profile_frame(pd.DataFrame({"x": then})), pd.DataFrame({"x": now}))
    p, q = ([np.mean(one == value) for value in "abcde"] for one in (then, now))
    assert drift.jensen_shannon == pytest.approx(jensenshannon(p, q, base=2), abs=1e-9)
    assert drift.ks is None


def test_a_profile_of_twenty_features_is_small_and_survives_its_file():
    frame = pd.DataFrame({f"x{i}": RNG.lognormal(size=5000) for i in range(20)})
    text = json.dumps(profile_frame(frame).to_dict())
    assert len(text) < 100_000
    assert Profile.from_dict(json.loads(text)) == profile_frame(frame)


def test_a_profile_of_the_first_format_is_read_and_compared():
    old = {"format": 1, "rows": 1000, "features": [
        {"name": "x", "kind": "numeric", "missing": 0.0, "shares": [0.5, 0.5], "edges": [0.5], "values": [],
         "other": 0.0, "minimum": 0.0, "maximum": 1.0, "mean": 0.5, "std": 0.3},
        {"name": "c", "kind": "categorical", "missing": 0.1, "shares": [0.6, 0.3], "edges": [], "values": ["a", "b"],
         "other": 0.0, "minimum": None, "maximum": None, "mean": None, "std": None}]}
    profile = Profile.from_dict(old)
    same = pd.DataFrame({"x": np.linspace(0, 1, 1000), "c": ["a"] * 600 + ["b"] * 300 + [None] * 100})
    number, category = measure_drift(profile, same)
    assert number.ks < 0.01
    assert number.wasserstein < 0.01
    assert category.p_value > 0.9
    assert measure_drift(profile, same + {"x": 0.5, "c": ""})[0].wasserstein == pytest.approx(0.5, abs=0.01)


def test_points_of_a_jump_are_kept_as_they_are():
    values = np.r_[np.full(3000, 1 / 3), RNG.normal(size=7000)]
    feature = profile_frame(pd.DataFrame({"x": values}))["x"]
    assert 1 / 3 in feature.points
    assert len(feature.points) < 260
    curve = Curve.from_profile(feature)
    assert measure_distances(curve, np.sort(values))[0] < 0.006


def test_chances_are_those_of_the_usual_tests():
    then, now = np.array([300, 500, 200]), np.array([40, 40, 20])
    expected = chi2_contingency(np.array([then, now]), correction=False).pvalue
    assert measure_chance(then, now, Sample(1000, 100)) == pytest.approx(expected, rel=1e-9)
    fisher = fisher_exact([[9, 91], [10, 990]], alternative="greater").pvalue
    assert measure_excess(10, 9, Sample(1000, 100)) == pytest.approx(fisher, rel=0.5)
    assert measure_chance(np.array([5.0]), np.array([3.0]), Sample(5, 3)) == 1


def test_rows_that_are_alike_prove_less():
    then, now = np.array([300, 500, 200]), np.array([60, 20, 20])
    alike = Sample(1000, 100, 50, 50, correlation=0.5, units_then=20, units_now=2)
    assert measure_chance(then, now, alike) > 0.05 > measure_chance(then, now, Sample(1000, 100))
    assert measure_excess(0, 4, alike) > measure_excess(0, 4, Sample(1000, 100))


def test_rows_of_a_day_are_seen_to_be_alike():
    day = pd.Series(np.repeat(np.arange(60), 50))
    frame = pd.DataFrame({"cold": RNG.normal(size=60)[day], "own": RNG.normal(size=3000),
                          "sky": np.where(RNG.random(60)[day] < 0.5, "clear", "grey")})
    profile = profile_frame(frame, unit=day)
    assert (profile.units, profile.unit_rows) == (60, 50)
    assert [round(profile[name].correlation, 1) for name in frame] == [1, 0, 1]
    week = frame[:350].assign(sky="grey")
    assert measure_drift(profile, week)[0].p_value < 1e-6
    assert measure_drift(profile, week, day[:350])[0].p_value > 0.001


def test_levels_are_holms():
    assert correct_level({"a": 0.04, "b": 0.001, "c": 0.02}, 0.05) == {"b": 0.05 / 3, "c": 0.025, "a": 0.05}
    assert correct_level({"a": 0.04, "b": 0.03}, 0.05) == {"b": 0.025, "a": 0.0}
    assert correct_level({}, 0.05) == {}
