import datetime

import numpy as np
import pandas as pd
import pytest

from cd4ml.base.errors import DataError, ParameterError
from cd4ml.model.split import Split, check_split, split_at_random, split_by_time

DAYS = (datetime.date(2013, 1, 1), datetime.date(2013, 2, 1), datetime.date(2013, 3, 1))


@pytest.mark.parametrize("zone", [None, "America/New_York"])
def test_time_windows_are_half_open(zone):
    times = pd.date_range("2012-12-31 23:59:59", "2013-03-01 00:00:01", freq="1s", tz=zone)[[0, 1, 2, -3, -2, -1]]
    edge = pd.Timestamp("2013-02-01", tz=zone)
    df = pd.DataFrame({"at": [*times, edge - pd.Timedelta("1s"), edge], "x": range(8)})
    split = split_by_time(df, "at", *DAYS)
    assert list(split.train["x"]) == [1, 2, 6]
    assert list(split.holdout["x"]) == [3, 7]


def test_dates_as_objects_are_times():
    df = pd.DataFrame({"at": [datetime.date(2013, 1, 5), datetime.date(2013, 2, 5)], "x": [1, 2]})
    assert list(split_by_time(df, "at", *DAYS).holdout["x"]) == [2]


@pytest.mark.parametrize("values", [["2013-01-05", "2013-02-05"], [1, 2], [pd.NaT, pd.Timestamp("2013-01-05")]])
def test_what_is_no_time_is_refused(values):
    with pytest.raises(DataError):
        split_by_time(pd.DataFrame({"at": values}), "at", *DAYS)


def test_empty_frame_is_refused():
    with pytest.raises(ParameterError, match="train and holdout window"):
        split_by_time(pd.DataFrame({"at": pd.to_datetime([])}), "at", *DAYS)


@pytest.mark.parametrize("share", [0, 1, -0.1, 2, 0.001])
def test_impossible_share(share):
    with pytest.raises(ParameterError):
        split_at_random(pd.DataFrame({"x": range(10)}), share, seed=0)


def test_random_split_is_a_partition_and_follows_the_seed():
    df = pd.DataFrame({"x": range(100), "kind": ["a", "b", None, "a"] * 25})
    split = split_at_random(df, 0.2, seed=1, stratify="kind")
    assert sorted([*split.train["x"], *split.holdout["x"]]) == list(range(100))
    assert split.holdout["kind"].isna().sum() == 5
    assert not split_at_random(df, 0.2, seed=2).holdout.equals(split_at_random(df, 0.2, seed=1).holdout)


def test_duplicates_are_found_by_content_with_missing_values():
    train = pd.DataFrame({"x": [1.0, np.nan], "c": ["a", None]})
    with pytest.raises(DataError, match="1 of 2 holdout rows"):
        check_split(Split(train, pd.DataFrame({"x": [np.nan, 2.0], "c": [None, "a"]}, index=[7, 8])))


def test_other_columns_are_refused():
    with pytest.raises(DataError, match="same columns"):
        check_split(Split(pd.DataFrame({"a": [1]}), pd.DataFrame({"b": [1]})))


@pytest.mark.parametrize(("zone", "day"), [("America/Sao_Paulo", datetime.date(2017, 10, 15)),  # begins at 1 o'clock
                                           ("America/Havana", datetime.date(2018, 11, 4))])  # midnight comes twice
def test_a_day_that_does_not_begin_at_midnight_is_a_bound(zone, day):
    start, hour = pd.Timestamp(day - datetime.timedelta(days=1), tz=zone), pd.Timedelta("1h")
    df = pd.DataFrame({"at": [start, *(pd.date_range(start, periods=60, freq=hour))]})
    split = split_by_time(df, "at", day - datetime.timedelta(days=1), day, day + datetime.timedelta(days=1))
    assert set(split.train["at"].dt.date) == {day - datetime.timedelta(days=1)}
    assert set(split.holdout["at"].dt.date) == {day}


def test_rows_of_a_unit_stay_together():
    df = pd.DataFrame({"x": range(300), "patient": [f"p{i % 50}" for i in range(300)], "sick": [i % 50 < 10 for i in
                                                                                             range(300)]})
    split = split_at_random(df, 0.2, 1, "sick", "patient")
    assert not set(split.train["patient"]) & set(split.holdout["patient"])
    assert (len(split.holdout), int(split.holdout["sick"].sum())) == (60, 12)
    with pytest.raises(DataError, match="patiant"):
        split_at_random(df, 0.2, 1, unit="patiant")
