"""Write kibana.ndjson, Kibana's saved objects: a data view, searches for Discover, figures and a dashboard.

    python ci/observability/write_kibana.py
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

VERSION = "8.8.0"  # of the form of the objects; later Kibanas bring them to their own
VIEW = "cd4ml-events"


@dataclass(frozen=True)
class SavedObject:
    """Hold a saved object as Kibana exports it; `references` are type, name and id of others."""

    type: str
    id: str
    attributes: dict[str, Any]
    references: list[tuple[str, str, str]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return the object as plain data."""
        references = [{"type": kind, "name": name, "id": one} for kind, name, one in self.references]
        return {"id": self.id, "type": self.type, "attributes": self.attributes, "references": references,
                "coreMigrationVersion": VERSION, "managed": False}


def make_view() -> SavedObject:
    """Return the data view of all events."""
    attributes = {"title": "cd4ml-*", "name": "cd4ml: events", "timeFieldName": "@timestamp", "allowNoIndex": True,
                  "fieldFormatMap": json.dumps({"seconds": {"id": "duration", "params": {
                      "inputFormat": "seconds", "outputFormat": "asMilliseconds", "outputPrecision": 1}}})}
    return SavedObject("index-pattern", VIEW, attributes)


def make_source(query: str, name: str = "kibanaSavedObjectMeta.searchSourceJSON.index") -> dict[str, str]:
    """Return what is searched: events of the data view that `query` matches."""
    source = {"query": {"query": query, "language": "kuery"}, "filter": [], "indexRefName": name}
    return {"searchSourceJSON": json.dumps(source)}


def make_search(name: str, title: str, query: str, columns: list[str]) -> SavedObject:
    """Return a search for Discover, the newest events first."""
    attributes = {"title": title, "description": "", "columns": columns, "sort": [["@timestamp", "desc"]],
                  "kibanaSavedObjectMeta": make_source(query)}
    return SavedObject("search", name, attributes,
                       [("index-pattern", "kibanaSavedObjectMeta.searchSourceJSON.index", VIEW)])


@dataclass(frozen=True)
class Measure:
    """Hold what a figure shows: an aggregation, over a field if it needs one."""

    kind: str = "count"
    field: str = ""
    percents: tuple[float, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the aggregation as plain data."""
        params = ({"field": self.field} if self.field else {}) | ({"percents": self.percents} if self.percents else {})
        return {"id": "1", "enabled": True, "type": self.kind, "schema": "metric", "params": params}


def make_figure(name: str, title: str, query: str, measure: Measure, split: str = "") -> SavedObject:
    """Return a figure over time; `split` is the field whose values have a line each."""
    aggregations = [measure.to_dict(), {
        "id": "2", "enabled": True, "type": "date_histogram", "schema": "segment",
        "params": {"field": "@timestamp", "useNormalizedEsInterval": True, "interval": "auto", "min_doc_count": 0}}]
    if split:
        aggregations.append({"id": "3", "enabled": True, "type": "terms", "schema": "group", "params": {
            "field": split, "orderBy": "_key", "order": "asc", "size": 10}})
    count = len(measure.percents) or 1
    axis = {"id": "ValueAxis-1", "name": "LeftAxis-1", "type": "value", "position": "left", "show": True,
            "scale": {"type": "linear", "mode": "normal"}, "labels": {"show": True}, "title": {"text": title}}
    state = {"title": title, "type": "line", "aggs": aggregations, "params": {
        "type": "line", "addLegend": True, "legendPosition": "right", "addTooltip": True, "grid": {},
        "categoryAxes": [{"id": "CategoryAxis-1", "type": "category", "position": "bottom", "show": True,
                          "scale": {"type": "linear"}, "labels": {"show": True}, "title": {}}],
        "valueAxes": [axis],
        "seriesParams": [{"show": True, "type": "line", "mode": "normal", "valueAxis": "ValueAxis-1", "interpolate":
                          "linear", "showCircles": count == 1, "drawLinesBetweenPoints": True,
                          "data": {"id": "1", "label": title}}]}}
    attributes = {"title": title, "description": "", "visState": json.dumps(state), "uiStateJSON": "{}",
                  "kibanaSavedObjectMeta": make_source(query)}
    return SavedObject("visualization", name, attributes,
                       [("index-pattern", "kibanaSavedObjectMeta.searchSourceJSON.index", VIEW)])


def make_dashboard(name: str, title: str, shown: list[SavedObject]) -> SavedObject:
    """Return a dashboard of `shown`, two beside each other; a search takes a whole row."""
    panels, references, x, y = [], [], 0, 0
    for number, one in enumerate(shown, 1):
        width = 48 if one.type == "search" else 24
        if x + width > 48:
            x, y = 0, y + 15
        panels.append({"version": VERSION, "type": one.type, "panelIndex": str(number), "embeddableConfig": {},
                       "gridData": {"x": x, "y": y, "w": width, "h": 15, "i": str(number)},
                       "panelRefName": f"panel_{number}"})
        references.append((one.type, f"{number}:panel_{number}", one.id))
        x += width
    attributes = {"title": title, "description": "What production was asked, what it answered, and what came of it",
                  "panelsJSON": json.dumps(panels), "timeRestore": True, "timeFrom": "now-7d", "timeTo": "now",
                  "optionsJSON": json.dumps({"useMargins": True, "hidePanelTitles": False}),
                  "kibanaSavedObjectMeta": {"searchSourceJSON": json.dumps(
                      {"query": {"query": "", "language": "kuery"}, "filter": []})}}
    return SavedObject("dashboard", name, attributes, references)


def make_objects() -> list[SavedObject]:
    """Return all saved objects, each after those that it refers to."""
    predictions = 'kind : "prediction"'
    asked = make_search("cd4ml-predictions", "cd4ml: predictions", predictions,
                        ["problem", "release", "role", "answer.prediction", "answer.probability", "seconds", "id"])
    outcomes = make_search("cd4ml-outcomes", "cd4ml: outcomes", 'kind : "outcome"',
                           ["problem", "prediction_id", "outcome"])
    figures = [
        make_figure("cd4ml-volume", "Predictions by release", predictions, Measure(), "release"),
        make_figure("cd4ml-roles", "Predictions by role", predictions, Measure(), "role"),
        make_figure("cd4ml-probability", "Mean probability by release", predictions,
                    Measure("avg", "answer.probability"), "release"),
        make_figure("cd4ml-seconds", "Seconds of a request", predictions,
                    Measure("percentiles", "seconds", (50, 95, 99))),
        make_figure("cd4ml-outcome", "Outcomes", 'kind : "outcome"', Measure(), "outcome"),
        make_figure("cd4ml-problems", "Events by problem", "", Measure(), "problem"),
    ]
    return [make_view(), asked, outcomes, *figures, make_dashboard("cd4ml", "cd4ml: production",
                                                                   [*figures, asked, outcomes])]


def write_objects() -> str:
    """Return the text of kibana.ndjson."""
    return "".join(json.dumps(one.to_dict(), sort_keys=True) + "\n" for one in make_objects())


if __name__ == "__main__":
    (Path(__file__).parent / "kibana.ndjson").write_text(write_objects(), encoding="utf-8")
