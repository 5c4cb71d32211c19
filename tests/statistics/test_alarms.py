"""The alarms about what is asked: how often they are false where nothing moved, and how often drift is caught."""

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ncx2

from cd4ml.data.drift import FeatureDrift, measure_drift
from cd4ml.data.profile import profile_frame
from cd4ml.problems.houses import FEATURES, SHARES, simulate_houses
from cd4ml.production.alarms import Watch, find_shifts

pytestmark = pytest.mark.slow
WINDOWS, THEN, NOW = 400, 2000, 300
LEVEL = 0.05
SURE = Watch(alarm_level=LEVEL, alarm_psi=-1e9, alarm_missing=-1.0, alarm_unseen=-1.0)  # chance alone decides
Drifts = list[list[FeatureDrift]]
OUTER = (0.1, 0.1, 0.13, 0.33, 0.34)  # how districts spread at drift = 1


def deal_windows(drift: float, seed: int) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
    """Yield the rows of a training and of a window, each drawn anew."""
    then = simulate_houses(WINDOWS * THEN, seed)[list(FEATURES)]
    now = simulate_houses(WINDOWS * NOW, seed + 1, drift)[list(FEATURES)]
    for i in range(WINDOWS):
        yield then[i * THEN : (i + 1) * THEN], now[i * NOW : (i + 1) * NOW]


@pytest.fixture(scope="module")
def calm() -> Drifts:
    return [measure_drift(profile_frame(then), now) for then, now in deal_windows(0.0, 1)]


@pytest.fixture(scope="module")
def slight() -> Drifts:
    return [measure_drift(profile_frame(then), now) for then, now in deal_windows(0.25, 11)]


def add_noise(frame: pd.DataFrame, rng: np.random.Generator, count: int) -> pd.DataFrame:
    return frame.assign(**{f"noise_{i}": rng.normal(size=len(frame)) for i in range(count)})


def test_each_feature_alone_is_called_drifted_at_the_level(calm: Drifts, check_rate: Callable[..., None]) -> None:
    for i, name in enumerate(FEATURES):
        found = sum(window[i].p_value <= LEVEL for window in calm)
        check_rate(f"{name}: p <= {LEVEL}", found, WINDOWS, LEVEL)


def test_a_window_without_drift_raises_alarms_at_most_at_the_level(calm: Drifts, limits: Callable[..., tuple[int, int]],
                                                                   ) -> None:
    surely, usual = (sum(bool(find_shifts(window, (), watch)) for window in calm) for watch in (SURE, Watch()))
    print(f"windows with a false alarm: {surely} by chance alone, {usual} with the usual sizes, of {WINDOWS}")
    assert surely <= limits(WINDOWS, LEVEL)[1]
    assert usual <= limits(WINDOWS, Watch().alarm_level)[1]


def test_watching_more_features_raises_no_more_false_alarms(limits: Callable[..., tuple[int, int]]) -> None:
    rng, false, naive = np.random.default_rng(3), 0, 0
    for then, now in deal_windows(0.0, 21):
        window = measure_drift(profile_frame(add_noise(then, rng, 30)), add_noise(now, rng, 30))
        false += bool(find_shifts(window, (), SURE))
        naive += any(one.p_value <= LEVEL for one in window)
    print(f"37 features: {false} of {WINDOWS} windows with a false alarm; {naive} if each had the level for itself")
    assert false <= limits(WINDOWS, LEVEL)[1]
    assert naive > WINDOWS / 2, "the check can fail"


def test_drift_of_a_category_is_caught_with_the_power_that_theory_gives(slight: Drifts, check_rate: Callable[..., None],
                                                                         ) -> None:
    p, q = np.array(SHARES), 0.75 * np.array(SHARES) + 0.25 * np.array(OUTER)
    pooled = (THEN * p + NOW * q) / (THEN + NOW)
    far = ((q - p) ** 2 / pooled).sum() / (1 / THEN + 1 / NOW)
    power = float(ncx2.sf(9.487729, 4, far))  # the 95 % quantile of chi-squared with 4 degrees of freedom
    found = sum(window[0].p_value <= LEVEL for window in slight)
    check_rate("district, drift 0.25", found, WINDOWS, power)


def test_plain_drift_is_caught_in_nearly_every_window() -> None:
    found = [find_shifts(measure_drift(profile_frame(then), now), (), Watch()) for then, now in deal_windows(0.6, 31)]
    caught = sum("area" in {alarm.name for alarm in window} for window in found)
    wrong = sum(bool({alarm.name for alarm in window} - {"area", "rooms", "district"}) for window in found)
    print(f"drift 0.6 of 300 rows: area caught in {caught} of {WINDOWS} windows, others wrongly in {wrong}")
    assert caught >= 0.99 * WINDOWS
    assert wrong <= 0.03 * WINDOWS


def simulate_days(days: int, rng: np.random.Generator) -> tuple[pd.DataFrame, pd.Series]:
    """Return 20 houses a day whose viewers all saw the same weather."""
    houses = simulate_houses(days * 20, int(rng.integers(2**31)))[list(FEATURES)]
    day = pd.Series(np.repeat(np.arange(days), 20))
    weather = {"temp": rng.normal(size=days)[day] + 0.3 * rng.normal(size=len(day)),
               "sky": np.where(rng.random(days)[day] < 0.4, "grey", "clear")}
    return houses.assign(**weather), day


@pytest.mark.parametrize("days", [7, 31])
def test_rows_of_a_day_raise_no_more_alarms_than_days_do(limits: Callable[..., tuple[int, int]], days: int) -> None:
    rng, false, naive = np.random.default_rng(days), 0, 0
    for _ in range(WINDOWS):
        (then, day), (now, today) = simulate_days(90, rng), simulate_days(days, rng)
        profile = profile_frame(then, unit=day)
        false += bool(find_shifts(measure_drift(profile, now, today), (), SURE))
        naive += bool(find_shifts(measure_drift(profile, now), (), SURE))
    print(f"{days} days: {false} of {WINDOWS} windows with a false alarm; {naive} if rows counted as independent")
    assert false <= limits(WINDOWS, LEVEL)[1]
    assert naive > 2 * limits(WINDOWS, LEVEL)[1], "the check can fail"


def test_warmer_days_are_caught_although_only_days_count() -> None:
    rng, caught = np.random.default_rng(5), 0
    for _ in range(100):
        (then, day), (now, today) = simulate_days(90, rng), simulate_days(31, rng)
        now["temp"] += 1.5
        found = find_shifts(measure_drift(profile_frame(then, unit=day), now, today), (), Watch())
        caught += "temp" in {alarm.name for alarm in found}
    print(f"31 days that are 1.5 standard deviations warmer: caught in {caught} of 100 windows")
    assert caught >= 95
