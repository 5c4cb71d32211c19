"""Write grafana.json, the dashboard of cd4ml's servers, with the builders of Grafana's foundation SDK.

    python ci/observability/write_grafana.py
"""

from dataclasses import dataclass
from pathlib import Path

from grafana_foundation_sdk.builders import dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
    VariableHide,
    VariableRefresh,
)

SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
CHOSEN = 'problem=~"$problem"'


@dataclass(frozen=True)
class Figure:
    """Hold one panel: the question that it answers, its unit in Grafana's words, and its expressions by legend."""

    title: str
    unit: str
    lines: dict[str, str]
    limit: float | None = None  # from which it is red


ROWS: dict[str, list[Figure]] = {
    "Is it well?": [
        Figure("Ready", "bool_yes_no", {"{{problem}}": f"min by (problem) (cd4ml_ready{{{CHOSEN}}})"}),
        Figure("Releases that answer", "none",
               {"{{problem}}: release {{release}}, {{role}}":
                f"count by (problem, release, role) (cd4ml_release_info{{{CHOSEN}}})"}),
        Figure("Requests that fail", "percentunit",
               {"{{problem}}": f"problem:cd4ml_error_ratio:rate5m{{{CHOSEN}}}"}, limit=0.01),
        Figure("Alarms of the newest monitoring", "none",
               {"{{problem}} {{kind}}": f"max by (problem, kind) (cd4ml_alarms{{{CHOSEN}}})"}, limit=1),
    ],
    "How much, how fast?": [
        Figure("Requests a second, by release", "reqps",
               {"{{problem}} {{release}} {{role}}": f"problem_release_role:cd4ml_requests:rate5m{{{CHOSEN}}}"}),
        Figure("Rows a second, by release", "rowsps",
               {"{{problem}} {{release}} {{role}}": f"problem_release_role:cd4ml_predictions:rate5m{{{CHOSEN}}}"}),
        Figure("Seconds of an answer, by release", "s",
               {"half, {{release}} {{role}}": f"problem_release_role:cd4ml_request_seconds:p50_5m{{{CHOSEN}}}",
                "99 %, {{release}} {{role}}": f"problem_release_role:cd4ml_request_seconds:p99_5m{{{CHOSEN}}}"},
               limit=0.25),
        Figure("Requests not answered, by status", "reqps",
               {"{{status}}": f"sum by (status) (rate(cd4ml_errors_total{{{CHOSEN}}}[$__rate_interval]))"}),
        Figure("Load: of the requests that it takes", "percentunit",
               {"{{problem}}": f"problem:cd4ml_load:ratio{{{CHOSEN}}}"}, limit=0.8),
        Figure("Memory", "bytes", {"{{instance}}": 'process_resident_memory_bytes{job="cd4ml"}'}),
    ],
    "Does production resemble training?": [
        Figure("Population stability index, by feature", "none",
               {"{{feature}}": f"max by (problem, feature) (cd4ml_drift_psi{{{CHOSEN}}})"}, limit=0.2),
        Figure("Since the newest monitoring", "s",
               {"{{problem}}": f"time() - max by (problem) (cd4ml_monitored_timestamp_seconds{{{CHOSEN}}})"}),
    ],
    "Do the sinks hear of it?": [
        Figure("Events that wait", "none",
               {"{{sink}}": f"max by (problem, sink) (cd4ml_sink_behind_events{{{CHOSEN}}})"}, limit=1000),
        Figure("Away since", "s", {"{{sink}}": f"max by (problem, sink) (cd4ml_sink_away_seconds{{{CHOSEN}}})"},
               limit=300),
    ],
}


def make_targets(figure: Figure) -> list[prometheus.Dataquery]:
    """Return the queries of `figure`."""
    return [prometheus.Dataquery().ref_id(chr(65 + number)).expr(expression).legend_format(legend).datasource(SOURCE)
            for number, (legend, expression) in enumerate(figure.lines.items())]


def make_thresholds(figure: Figure) -> dashboard.ThresholdsConfig:
    """Return green, and red from the limit of `figure`."""
    steps = [Threshold(value=None, color="green")]
    steps += [Threshold(value=figure.limit, color="red")] if figure.limit is not None else []
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)


def make_panel(figure: Figure, is_number: bool) -> stat.Panel | timeseries.Panel:
    """Return the panel of `figure`: its newest value, or its lines over time."""
    panel = stat.Panel() if is_number else timeseries.Panel().fill_opacity(5)
    panel.title(figure.title).unit(figure.unit).datasource(SOURCE).thresholds(make_thresholds(figure))
    for target in make_targets(figure):
        panel.with_target(target)
    return panel.height(5 if is_number else 8).span(6 if is_number else 12)


def make_dashboard() -> dashboard.Dashboard:
    """Return the dashboard."""
    source = dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus")
    problem = (dashboard.QueryVariable("problem").label("Problem").datasource(SOURCE).multi(True).include_all(True)
               .query("label_values(cd4ml_ready, problem)").refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
               .hide(VariableHide.DONT_HIDE))
    board = (dashboard.Dashboard("cd4ml: production").uid("cd4ml-production").tags(["cd4ml"]).refresh("30s")
             .time("now-6h", "now").timezone("browser").tooltip(DashboardCursorSync.CROSSHAIR)
             .with_variable(source).with_variable(problem))
    for number, (title, figures) in enumerate(ROWS.items()):
        board.with_row(dashboard.Row(title))
        for place, figure in enumerate(figures, 1):
            board.with_panel(make_panel(figure, is_number=number == 0).id(100 * number + place))
    return board


def write_dashboard() -> str:
    """Return the text of grafana.json."""
    return JSONEncoder(sort_keys=True, indent=1).encode(make_dashboard().build()) + "\n"


if __name__ == "__main__":
    (Path(__file__).parent / "grafana.json").write_text(write_dashboard(), encoding="utf-8")
