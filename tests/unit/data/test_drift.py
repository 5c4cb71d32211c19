import numpy as np
import pandas as pd
import pytest

from cd4ml.base.errors import DataError
from cd4ml.data.drift import measure_drift, measure_psi
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
