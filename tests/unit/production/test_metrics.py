"""What Prometheus is told where there is little to tell: records of other times, sinks nobody heard of, odd clocks."""

import datetime as dt
import json
from pathlib import Path

import pytest

from cd4ml.production.metrics import Metrics, Monitored, Standing, list_samples, read_monitored

AT = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)


def write_monitoring(store: Path, name: str, value: object) -> None:
    folder = store / "monitoring" / "toy" / name
    folder.mkdir(parents=True)
    result = {"name": "monitoring", "kind": "value", "sha256": "", "path": "", "value": value, "about": {}}
    (folder / "results.json").write_text(json.dumps({"format": 1, "step": "monitor", "results": [result]}))


def test_the_newest_monitoring_that_came_to_its_end_counts(tmp_path: Path) -> None:
    write_monitoring(tmp_path, "20260101-000000-ab12", {"alarms": [{"name": "a"}], "drift": []})
    write_monitoring(tmp_path, "20260102-000000-ab12", {"alarms": [{"name": "a", "kind": "outcome"}, {"name": "b"}]})
    (tmp_path / "monitoring/toy/20260103-000000-ab12").mkdir()
    write_monitoring(tmp_path, "20260104-000000-ab12", "something else")
    write_monitoring(tmp_path, "not-a-time", {"alarms": []})
    (tmp_path / "monitoring/toy/a-file").touch()
    assert read_monitored(str(tmp_path), "toy") == Monitored(AT, {}, {"drift": 1, "outcome": 1})
    (tmp_path / "monitoring/toy/20260103-000000-ab12/results.json").write_text("half a")
    assert read_monitored(str(tmp_path), "toy").at == AT


def test_a_monitoring_is_seen_as_soon_as_it_ends(tmp_path: Path) -> None:
    (tmp_path / "monitoring/toy/20260103-000000-ab12").mkdir(parents=True)
    assert read_monitored(str(tmp_path), "toy") is None
    (tmp_path / "monitoring/toy/20260103-000000-ab12").rmdir()
    write_monitoring(tmp_path, "20260103-000000-ab12", {"drift": [{"name": "a", "psi": 1}], "alarms": None})
    assert read_monitored(str(tmp_path), "toy").drift == {"a": 1.0}


@pytest.mark.parametrize(("since", "seconds"), [("", 0), ("2026-01-01T23:59:00+00:00", 60),
                                                 ("2027-01-01T00:00:00+00:00", 0)])
def test_a_clock_that_goes_back_makes_no_negative_times(since: str, seconds: float) -> None:
    sink = {"sink": "azure://", "since": since, "behind": 0, "refused": 0, "status": "well"}
    standing = Standing("toy", {}, 0, 1, sinks=[sink])
    found = {name: samples for name, _, _, samples in list_samples(standing, AT)}
    assert found["cd4ml_sink_away_seconds"] == [(("toy", "azure://"), seconds)]


def test_a_state_that_cannot_be_read_does_not_silence_the_rest() -> None:
    sinks = [{"sink": "azure://", "status": "unknown"}]
    metrics = Metrics("toy", lambda: Standing("toy", {"champion": 1}, 0, 1, sinks=sinks))
    told = metrics.write().decode()
    assert "azure" not in told  # that nothing waits, or that none was refused, is not known
    assert 'cd4ml_errors_total{problem="toy",status="503"} 0.0' in told
