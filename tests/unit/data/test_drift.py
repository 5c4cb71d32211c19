import numpy as np
import pandas as pd
import pytest

from cd4ml.base.errors import DataError
from cd4ml.data.distance import measure_psi
from cd4ml.data.drift import compare_profiles, measure_drift
from cd4ml.data.profile import profile_frame


def measure(then, now):
    (drift,) = measure_drift(profile_frame(pd.DataFrame({"x": then})), pd.DataFrame({"x": now}))
    return drift


def test_psi_is_the_formula():
    p, q = np.array([20.5, 80.5]) / 101, np.array([40.5, 60.5]) / 101
    assert measure_psi(np.array([20, 80]), np.array([40, 60])) == pytest.approx(((q - p) * np.log(q / p)).sum())


def test_same_rows_have_not_drifted():
    assert measure([1.0, 2, None, 4], [1.0, 2, None, 4]).psi == 0


def test_missing_values_alone_are_drift():
    drift = measure(np.arange(1000.0), [*np.arange(700.0), *[None] * 300])
    assert drift.missing_then == 0
    assert drift.missing_now == 0.3
    assert drift.psi > 0.2


def test_unseen_values_are_counted():
    assert measure(["a", "b"], ["a", "c", "d", None]).unseen == 2
    assert measure([1.0, 2.0], ["1", "two", None]).unseen == 1


def test_psi_without_drift_is_near_its_noise():
    rng = np.random.default_rng(5)
    found = [measure(rng.normal(size=3000), rng.normal(size=500)) for _ in range(40)]
    assert np.mean([one.psi for one in found]) == pytest.approx(found[0].noise, rel=0.25)


def test_no_rows_and_missing_features_are_refused():
    profile = profile_frame(pd.DataFrame({"a": [1], "b": [1]}))
    with pytest.raises(DataError):
        measure_drift(profile, pd.DataFrame({"a": [], "b": []}))
    with pytest.raises(DataError, match="a, b"):
        measure_drift(profile, pd.DataFrame({"c": [1]}))


def profile_of(values):
    return profile_frame(pd.DataFrame({"x": values}))


def test_profiles_with_the_same_bins_give_what_the_rows_give():
    then, now = [1.0] * 50 + [2.0] * 50, [1.0] * 30 + [2.0] * 60 + [None] * 10
    (held,), exact = compare_profiles(profile_of(then), profile_of(now)), measure(then, now)
    assert (held.psi, held.n, held.missing_now) == (pytest.approx(exact.psi), 100, 0.1)


def test_profiles_with_other_bins_give_nearly_what_the_rows_give():
    rng = np.random.default_rng(3)
    then = rng.normal(size=4000)
    for now in (rng.normal(size=4000), rng.normal(0.7, size=4000), rng.normal(size=4000) * 2):
        (held,) = compare_profiles(profile_of(then), profile_of(now))
        assert held.psi == pytest.approx(measure(then, now).psi, rel=0.25, abs=0.02)


@pytest.mark.parametrize(("then", "now", "unseen"), [
    ([1.0, 2.0], ["a", "b"], 2), (["a", "b"], ["a", "c"], 1), ([np.nan] * 2, [1.0, 2.0], 0),
    ([1.0, 2.0], [3.0, 3.0], 0)])
def test_profiles_that_have_little_in_common_have_drifted(then, now, unseen):
    (held,) = compare_profiles(profile_of(pd.Series(then * 100)), profile_of(pd.Series(now * 100)))
    assert held.psi > 0.2
    assert held.unseen == unseen * 100


def test_a_feature_that_only_one_profile_knows_is_left_out():
    wide = profile_frame(pd.DataFrame({"x": [1.0], "y": [2.0]}))
    assert [one.name for one in compare_profiles(wide, profile_of([1.0]))] == ["x"]
    assert [one.name for one in compare_profiles(profile_of([1.0]), wide)] == ["x"]


def flag(ones):
    return np.arange(1000) < 1000 * ones


CAP = np.minimum(np.linspace(0, 1, 1000), 0.08)
ATOMS = {
    "constant": (np.full(1000, 5.0), np.full(1000, 5000.0)), "constant below": (np.full(1000, 5.0), np.full(1000, 3.0)),
    "flag": (flag(0.95) * 1.0, flag(0.2) * 1.0), "capped": (CAP, np.minimum(np.linspace(0, 0.11, 1000), 0.08)),
    "zeros": (np.maximum(np.linspace(-1, 0.5, 1000), 0), np.maximum(np.linspace(-0.1, 0.5, 1000), 0)),
    "middle": (np.r_[np.full(400, 1.0), np.linspace(0, 2, 600)], np.r_[np.full(40, 1.0), np.linspace(0, 2, 960)])}


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("name", ATOMS)
def test_a_number_that_many_rows_share_has_a_bin_of_its_own(name, sign):
    then, now = ATOMS[name]
    assert measure(sign * then, sign * now).psi > 0.2
    (held,) = compare_profiles(profile_of(sign * then), profile_of(sign * now))
    assert held.psi > 0.2


@pytest.mark.parametrize("seed", range(20))
def test_drift_is_the_same_in_the_mirror(seed):
    rng = np.random.default_rng(seed)

    def draw(share, at):
        return np.where(rng.random(3000) < share, at, rng.normal(size=3000))

    at = rng.choice([-3.0, 0.0, 3.0])
    then, now = draw(rng.random() * 0.95, at), draw(rng.random() * 0.95, at)
    mirrored = measure(-then, -now).psi
    assert measure(then, now).psi == pytest.approx(mirrored, rel=0.1, abs=0.02)


def test_rows_of_a_unit_are_told_apart_in_all_bins():
    units = pd.Series(np.repeat(np.arange(50), 20))
    df = pd.DataFrame({"x": (np.repeat(np.arange(50), 20) % 10).astype(float)})
    assert profile_frame(df, unit=units)["x"].correlation > 0.9
