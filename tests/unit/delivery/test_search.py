"""What can be found, and how small the index of many releases is."""

import json

from cd4ml.delivery.history import Event
from cd4ml.delivery.manifest import Release
from cd4ml.delivery.search import describe_problem, describe_release, make_index
from cd4ml.model.problem import find_problem


def make_release(version, **run):
    params = {"train": {f"p{i}": i + version % 3 for i in range(30)} | {"rules": [{"a": 1}], "none": None}}
    whole = {"decision": {"status": "pass"}, "variant": "wider", "run_id": "r1", "params": params,
             "provenance": {"commit": "c0ffee" * 6, "who": "ada"}} | run
    return Release("toy", version, "2026-01-02T03:04", "binary", "y", (), (), whole, {}, None, {})


def test_a_release_is_found_by_what_is_known_of_it():
    events = [Event(1, "promote", 3, None, "2026-01-02", "bob", "it is better", "ci"),
              Event(2, "promote", 4, 3, "2026-01-03", "eve", "later", "ci")]
    words = describe_release(make_release(3), events, 3).words
    assert {"pass", "wider", "r1", "ada", "bob", "it is better", "champion serves", "2026-01-02", "train.p1=1",
            "c0ffeec0ffeec0ff"} <= {*words}
    assert not {"eve", "later"} & {*words}


def test_a_release_of_an_older_version_is_found_as_far_as_it_goes():
    assert describe_release(make_release(1, provenance={}, params={}, decision={}, variant=""), [], None).words


def test_a_problem_is_found_by_its_features_and_data():
    words = describe_problem(find_problem("iris")).words
    assert {"petal_width", "species", "iris"} <= {*words}


def test_hundreds_of_releases_share_their_words():
    index = make_index(describe_release(make_release(version), [], None) for version in range(1, 201))
    assert len(json.dumps(index)) < 40_000
    title, page, words = index["entries"][6]
    assert (title, page) == ("toy release 7", "toy/7/index.html")
    assert "train.p1=2" in [index["words"][number] for number in words]
