import datetime
import json

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from cd4ml.data.catalog import hash_frame
from cd4ml.model.problem import find_problem, list_problems
from cd4ml.problems import flights, houses, iris

WEATHER = {name: [1.0] for name in flights.WEATHER} | {"wind_speed": [1048.0]}
FRAMES = {
    "flights": pd.DataFrame({
        "year": 2013, "month": 7, "day": 4, "sched_dep_time": [2330, 900, 900], "sched_arr_time": [210, 1100, 1100],
        "arr_delay": [16.0, 15.0, None], "carrier": "UA", "flight": [1, 2, 3], "tailnum": ["N1", None, "N1"],
        "origin": "JFK", "dest": ["LAX", "SJU", "LAX"], "distance": 2475, "hour": [23, 9, 9],
        "time_hour": ["2013-07-05T03:00:00Z", "2013-07-04T13:00:00Z", "2013-07-04T13:00:00Z"]}),
    "weather": pd.DataFrame({"origin": ["JFK"], "time_hour": ["2013-07-05T03:00:00Z"], **WEATHER}),
    "planes": pd.DataFrame({"tailnum": ["N1"], "year": [2003.0], "engine": ["Turbo-fan"], "seats": [180]}),
    "airports": pd.DataFrame({"faa": ["LAX"], "lat": [34.0], "lon": [-118.0], "alt": [126], "tz": [-8], "dst": ["A"]}),
}


def test_problems_are_found():
    assert {"flights", "houses", "iris"} <= set(list_problems())
    assert all(find_problem(name).name == name for name in list_problems())


def test_flights_rows():
    rows = flights.prepare_rows(FRAMES, flights.FlightsPrepare())
    assert rows["late"].tolist() == [True, False], "16 minutes are late, 15 are not, a cancelled flight is neither"
    first, second = rows.to_dict("records")
    assert first["flight_id"] == "JFK-2013-07-04-UA-1"
    assert (first["duration"], first["plane_age"], first["weekday"]) == (340, 10, 3)
    assert np.isnan(first["wind_speed"]), "an impossible wind counts as missing"
    assert np.isnan([second[name] for name in ("duration", "seats", "temp", "dest_lat")]).all()
    assert all(rows[name].dtype == float for name in flights.NUMBERS)
    assert not set(rows) & set(flights.LEAKS)


def test_flights_days_come_as_date_or_text_and_nothing_else():
    params = flights.FlightsPrepare(train_until="2013-06-01", train_from=datetime.date(2013, 2, 1))
    assert flights.FlightsPrepare(**json.loads(params.model_dump_json())) == params
    for wrong in (20130601, 0, "soon", datetime.datetime(2013, 6, 1)):  # noqa: DTZ001
        with pytest.raises(ValidationError):
            flights.FlightsPrepare(train_until=wrong)


def test_flights_days_out_of_order_are_refused_in_words():
    with pytest.raises(ValidationError) as caught:
        flights.FlightsPrepare(train_from="2013-08-01", train_until="2013-08-01", holdout_until="2013-07-01")
    (fault,) = caught.value.errors()
    assert fault["loc"] == ()
    assert fault["msg"] == ("Value error, train_from (2013-08-01) must be before train_until (2013-08-01) and "
                            "train_until (2013-08-01) must be before holdout_until (2013-07-01)")


def test_flights_model_takes_text_numbers_and_none_from_json():
    rng = np.random.default_rng(1)
    X = pd.DataFrame({name: rng.choice(["a", "b"], 200) for name in flights.CATEGORIES}
                     | {name: rng.normal(size=200) for name in flights.NUMBERS})
    X.loc[:20, ["engine", "temp"]] = None
    model = flights.build_model(flights.FlightsTrain(max_iter=5)).fit(X, X["seats"] > 0)
    row = X.head(1).to_dict("records")[0] | {"engine": None, "temp": None}
    as_nan = pd.DataFrame([row | {"temp": np.nan}]).astype(dict.fromkeys(flights.CATEGORIES, "str"))
    assert (model.predict_proba(pd.DataFrame([row])) == model.predict_proba(as_nan)).all()


def test_houses_are_the_same_for_a_seed_and_obey_their_knobs():
    plain = houses.simulate_houses(3000, 1)
    assert hash_frame(plain) == hash_frame(houses.simulate_houses(3000, 1)) != hash_frame(
        houses.simulate_houses(3000, 2))
    assert houses.simulate_houses(3000, 1, drift=1)["area"].mean() > 1.3 * plain["area"].mean()
    moved = houses.simulate_houses(3000, 1, concept=1)
    assert moved.drop(columns="price").equals(plain.drop(columns="price"))
    assert (moved["price"] != plain["price"]).any()
    for noise in (0.0, 35.0):
        sales = houses.simulate_houses(3000, 1, noise=noise)
        assert (sales["price"] - houses.price_houses(sales)).std() == pytest.approx(noise, rel=0.05, abs=0.05)


def test_iris_holdout_has_each_species_alike():
    df = pd.DataFrame({name: np.arange(90.0) for name in iris.FEATURES} | {"species": [0, 1, 2] * 30})
    rows = iris.prepare_rows({"iris": df}, iris.IrisPrepare())
    split = iris.split_rows(rows, iris.IrisPrepare())
    assert split.holdout["species"].value_counts().tolist() == [12, 12, 12]
