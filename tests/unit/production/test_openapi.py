import json

import jsonschema
import pytest

from cd4ml.production.form import Face, Field
from cd4ml.production.openapi import describe_answer, describe_feedback, describe_invocation, write_openapi
from cd4ml.production.requests import list_features

FIELDS = tuple(Field(one) for one in list_features(
    (("n", "int8"), ("at", "datetime64[ns]"), ("zoned", "datetime64[ns, UTC]"), ("name", "str")), "toy"))
FACE = Face("toy", 3, "multiclass", "kind", ("a", "b"), "pass", FIELDS, needs_key=False)


def find_body(path: str) -> dict:
    return write_openapi(FACE, 5)["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]


def is_valid(value: object, schema: dict) -> bool:
    return jsonschema.Draft202012Validator(schema).is_valid(value)


def test_an_answer_names_the_classes_of_the_release() -> None:
    answer = {"prediction_id": "1", "prediction": "a", "probability_a": 0.75, "probability_b": 0.25}
    assert is_valid(answer, describe_answer(FACE))
    assert not is_valid(answer | {"prediction": "c"}, describe_answer(FACE))
    assert not is_valid(answer | {"probability_c": 0.0}, describe_answer(FACE))


def test_whole_numbers_have_the_ends_of_their_type_and_times_say_whether_they_have_a_zone() -> None:
    row = find_body("/predict")["oneOf"][1]["properties"]
    assert (row["n"]["minimum"], row["n"]["maximum"]) == (-128, 127)
    assert (row["at"]["format"], row["zoned"]["format"]) == ("date-time-local", "date-time")


def test_an_invocation_has_exactly_one_form() -> None:
    row = {"n": 1, "at": None, "zoned": None, "name": "x"}
    split = {"columns": list(row), "data": [[*row.values()]]}
    schema = describe_invocation(FIELDS, 5)["content"]["application/json"]["schema"]
    assert is_valid({"dataframe_split": split}, schema)
    assert is_valid({"dataframe_records": [row | {"other": 7}]}, schema)
    assert not is_valid({"dataframe_split": split, "dataframe_records": [row]}, schema)
    assert not is_valid({"dataframe_records": [row] * 6}, schema)


@pytest.mark.parametrize(("task", "right", "wrong"), [("multiclass", "b", "c"), ("regression", 1.5, "1.5")])
def test_an_outcome_is_a_value_of_the_target(task: str, right: object, wrong: object) -> None:
    face = Face("toy", 3, task, "kind", ("a", "b") if task == "multiclass" else (), "pass", FIELDS, needs_key=False)
    schema = describe_feedback(face, 5)["content"]["application/json"]["schema"]
    assert is_valid({"prediction_id": "1", "outcome": right}, schema)
    assert not is_valid({"prediction_id": "1", "outcome": wrong}, schema)


def test_the_document_is_json_and_needs_no_release() -> None:
    for face in (FACE, Face("toy", None, "", "", (), "", (), needs_key=True)):
        assert json.loads(json.dumps(write_openapi(face, 5)))["openapi"] == "3.1.0"
