import numpy as np
import pandas as pd
import pytest

from cd4ml.base.errors import DataError
from cd4ml.model.evaluation import Scored
from cd4ml.model.mistakes import draw_changes_of_mind, list_newly_wrong, list_worst, measure_errors

ROWS = pd.DataFrame({"colour": list("rgby"), "size": [1, 2, 3, 4]}, index=[7, 7, 8, 9])


def predict(probability):
    chance = pd.Series(probability)
    return pd.DataFrame({"prediction": chance > 0.5, "probability": chance})


BINARY = Scored(pd.Series([True, True, False, False]), predict([0.3, 0.9, 0.8, 0.1]), "binary")
CHAMPION = predict([0.6, 0.2, 0.9, 0.4])
NUMBERS = Scored(pd.Series([1.0, 2, 3, 4]), pd.DataFrame({"prediction": [1.0, 5, 2.5, 4]}), "regression")
WORDS = Scored(pd.Series(list("abcc")), pd.DataFrame({
    "prediction": list("abab"), "probability_a": [0.8, 0.1, 0.7, 0.1], "probability_b": [0.1, 0.8, 0.2, 0.6],
    "probability_c": [0.1, 0.1, 0.1, 0.3]}), "multiclass")


def test_an_error_is_a_distance_or_the_probability_of_what_was_wrong():
    assert measure_errors(BINARY) == pytest.approx([0.7, 0, 0.8, 0])
    assert measure_errors(WORDS) == pytest.approx([0, 0, 0.7, 0.6])
    assert measure_errors(NUMBERS) == pytest.approx([0, -3, 0.5, 0])


def test_the_worst_rows_come_first_and_right_ones_never():
    worst = list_worst(BINARY, ROWS, ["colour"])
    assert worst["colour"].tolist() == ["b", "r"]
    assert list(worst) == ["true", "predicted", "certainty", "colour"]
    assert list_worst(WORDS, ROWS, ["size"])["size"].tolist() == [3, 4]
    assert list_worst(NUMBERS, ROWS, ["size"], k=1).to_dict("records") == [
        {"true": 2, "predicted": 5, "error": -3, "size": 2}]
    assert list_worst(BINARY, ROWS, []).index.tolist() == [8, 7]


def test_newly_wrong_rows_are_those_that_the_champion_got_right():
    newly = list_newly_wrong(BINARY, CHAMPION, ROWS, ["colour"])
    assert newly.to_dict("records") == [{"true": True, "predicted": False, "champion": True, "certainty": 0.7,
                                         "colour": "r"}]
    grown = list_newly_wrong(NUMBERS, pd.DataFrame({"prediction": [3.0, 3, 3, 4]}), ROWS, ["size"])
    assert grown["grown by"].tolist() == [2, 0.5]
    assert not len(list_newly_wrong(NUMBERS, NUMBERS.predictions, ROWS, ["size"]))


def test_rows_that_do_not_fit_are_refused():
    with pytest.raises(DataError, match="size"):
        list_worst(BINARY, ROWS, ["sise"])
    with pytest.raises(DataError, match="4 rows"):
        list_worst(BINARY, ROWS[:2], ["size"])


def test_changes_of_mind_are_counted_both_ways():
    assert draw_changes_of_mind(BINARY, CHAMPION).caption == (
        "Newly right in 1 of 4 rows, newly wrong in 1; both are right in 1 and wrong in 1.")
    near = draw_changes_of_mind(NUMBERS, pd.DataFrame({"prediction": [3.0, 3, 3, 4]}))
    assert near.caption == "Nearer than the champion in 1 of 4 rows, farther in 2; as far off in 1."
    assert near.title in near._repr_html_()


@pytest.mark.filterwarnings("error")
def test_one_row_and_no_change():
    one = Scored(BINARY.y[:1], BINARY.predictions[:1], "binary")
    assert "0 of 1 rows" in draw_changes_of_mind(one, one.predictions).caption
    assert len(list_worst(one, ROWS[:1], ["size"])) == 1
    assert np.isfinite(measure_errors(one)).all()
