"""The files of ci/observability that no server here can try are what their generators write, and hang together."""

import datetime as dt
import fnmatch
import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from cd4ml.production.elasticsearch import name_index, pack_bulk
from cd4ml.production.events import Event, make_outcome_event, make_prediction_event
from cd4ml.production.fluentd import group_events

FILES = Path(__file__).resolve().parents[3] / "ci" / "observability"
PREDICTION = make_prediction_event(("p1", "r1", 1372680000123, "flights", 3, '{"hour": 17, "wind": {"gust": 1}}',
                                    '{"prediction": true, "probability": 0.8}', "", "champion", 0.002))
OUTCOME = make_outcome_event("flights", (1, "p1", "", 1372680000123, "true"))
TEMPLATE = json.loads((FILES / "elasticsearch/template.json").read_text())
OBJECTS = [json.loads(line) for line in (FILES / "kibana.ndjson").read_text().splitlines()]


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, FILES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look for it there
    spec.loader.exec_module(module)
    return module


def test_the_dashboards_are_what_their_generators_write() -> None:
    assert (FILES / "grafana.json").read_text() == load("write_grafana").write_dashboard()
    assert (FILES / "kibana.ndjson").read_text() == load("write_kibana").write_objects()


def test_panels_of_grafana_lie_beside_each_other_and_have_a_source() -> None:
    board = json.loads((FILES / "grafana.json").read_text())
    panels = [one for one in board["panels"] if one["type"] != "row"]
    assert len({one["id"] for one in panels}) == len(panels) > 10
    taken = set[tuple[int, int]]()
    for one in board["panels"]:
        place = one["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"])
                 for y in range(place["y"], place["y"] + place["h"])}
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells
    for one in panels:
        assert one["targets"]
        assert one["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert {one["name"] for one in board["templating"]["list"]} == {"datasource", "problem"}


def find_type(field: str) -> str | None:
    """Return the type that the template gives a field, or its dynamic rules would; none if it knows no such field."""
    known = TEMPLATE["template"]["mappings"]["properties"]
    if field in known:
        return known[field]["type"]
    return "dynamic" if field.partition(".")[0] in known and "." in field else None


@pytest.mark.parametrize("event", [PREDICTION, OUTCOME], ids=["prediction", "outcome"])
def test_the_template_knows_each_field_of_an_event_and_its_index(event: Event) -> None:
    action, document = map(json.loads, pack_bulk([event]).splitlines())
    assert not [name for name in document if not find_type(name)]
    index = action["create"]["_index"]
    assert any(fnmatch.fnmatch(index, pattern) for pattern in TEMPLATE["index_patterns"])
    settings = TEMPLATE["template"]["settings"]
    assert settings["index.lifecycle.parse_origination_date"] is True
    assert re.fullmatch(r".*-\d{4}\.\d{2}\.\d{2}(-\d+)?", index)  # without it the policy would not know its age
    assert dt.datetime.fromisoformat(document["@timestamp"]) == event.at


def test_the_policy_ages_and_removes() -> None:
    policy = json.loads((FILES / "elasticsearch/policy.json").read_text())["policy"]
    assert list(policy["phases"]) == ["hot", "warm", "delete"]
    assert "delete" in policy["phases"]["delete"]["actions"]
    # An id is known in one index only, so none may roll over.
    assert not any("rollover" in one["actions"] for one in policy["phases"].values())


def test_objects_of_kibana_refer_to_each_other_and_to_what_was_said_before() -> None:
    known = set[tuple[str, str]]()
    for one in OBJECTS:
        assert set(one) == {"id", "type", "attributes", "references", "coreMigrationVersion", "managed"}
        for reference in one["references"]:
            assert (reference["type"], reference["id"]) in known
        assert (one["type"], one["id"]) not in known
        known.add((one["type"], one["id"]))
    assert {kind for kind, _ in known} == {"index-pattern", "search", "visualization", "dashboard"}
    assert OBJECTS[0]["attributes"]["title"] in TEMPLATE["index_patterns"]
    assert find_type(OBJECTS[0]["attributes"]["timeFieldName"]) == "date"


def list_fields(one: dict[str, Any]) -> list[str]:
    about, fields = one["attributes"], list[str]()
    if "kibanaSavedObjectMeta" in about:
        source = json.loads(about["kibanaSavedObjectMeta"]["searchSourceJSON"])
        assert source.get("indexRefName") in [None, *(reference["name"] for reference in one["references"])]
        fields += re.findall(r"([\w.@]+) :", source["query"]["query"])
    fields += about.get("columns", []) + [name for name, _ in about.get("sort", [])]
    for aggregation in json.loads(about.get("visState", "{}")).get("aggs", []):
        name = aggregation["params"].get("field")
        fields += [name] if name else []
        if aggregation["type"] == "terms":
            assert find_type(name) in ("keyword", "integer")
        if aggregation["type"] in ("avg", "percentiles"):
            assert find_type(name) in ("double", "dynamic")
    return fields


@pytest.mark.parametrize("one", OBJECTS, ids=lambda one: one["id"])
def test_kibana_asks_for_fields_that_there_are(one: dict[str, Any]) -> None:
    assert not [name for name in list_fields(one) if not find_type(name)]


def test_the_dashboard_of_kibana_shows_each_figure_once_and_none_over_another() -> None:
    board, = [one for one in OBJECTS if one["type"] == "dashboard"]
    panels = json.loads(board["attributes"]["panelsJSON"])
    named = {f"{one['panelIndex']}:{one['panelRefName']}" for one in panels}
    assert named == {one["name"] for one in board["references"]}
    assert {one["id"] for one in board["references"]} == {one["id"] for one in OBJECTS[1:-1]}
    taken = [(x, y) for one in panels for place in [one["gridData"]] for x in range(place["x"], place["x"] + place["w"])
             for y in range(place["y"], place["y"] + place["h"])]
    assert len(taken) == len(set(taken))
    assert max(x for x, _ in taken) < 48


def read_fluentd() -> dict[str, dict[str, str]]:
    """Return the values of each section of fluentd.conf by its path; raise if a section does not end."""
    found, path = dict[str, dict[str, str]](), list[str]()
    for line in (FILES / "fluentd.conf").read_text().splitlines():
        words = line.split("#", 1)[0].strip() if line.strip().startswith("#") else line.strip()
        if not words:
            continue
        if words.startswith("</"):
            assert words == f"</{path.pop().split()[0]}>"
        elif words.startswith("<"):
            path.append(words[1:-1])
            found["/".join(path)] = {}
        else:
            name, _, value = words.partition(" ")
            found["/".join(path)][name] = value.strip()
    assert not path
    return found


def test_fluentd_writes_to_the_index_and_id_that_our_own_sink_uses() -> None:
    found = read_fluentd()
    match = found["match cd4ml.**"]
    (tag,) = group_events("", [PREDICTION])
    assert fnmatch.fnmatch(tag, "cd4ml.*")
    prefix = match["logstash_prefix"].replace("${tag[1]}", tag.split(".")[1])
    assert f"{prefix}-{PREDICTION.at.strftime(match['logstash_dateformat'])}" == name_index(PREDICTION)
    assert (match["id_key"], match["write_operation"], match["utc_index"]) == ("id", "create", "true")
    assert match["id_key"] in PREDICTION.to_dict()
    buffer = found["match cd4ml.**/buffer tag"]
    assert (buffer["@type"], buffer["retry_forever"], buffer["overflow_action"]) == ("file", "true", "block")
    assert found["source"] == {"@type": "forward", "port": "24224", "bind": "127.0.0.1"}
