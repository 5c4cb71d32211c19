"""What the doctor finds, and what it takes away."""

import os
import time
from dataclasses import replace

from cd4ml.base.settings import load_settings
from cd4ml.base.store import Store
from cd4ml.delivery.checkup import _check_leftovers, _check_problems
from cd4ml.delivery.history import Event, add_event


def test_half_written_files_go_once_nobody_can_be_writing_them(root, tmp_path):
    settings = replace(load_settings(root, environ={}), run_store=str(tmp_path / "run"),
                       data_store=str(tmp_path / "data"), release_store=str(tmp_path / "releases"),
                       site=str(tmp_path / "site"))
    for folder, age in (("releases/iris/history", 7200), ("site", 7200), ("run/runs", 60), ("data", -7200)):
        path = tmp_path / folder / ".x.json.1234abcd.part"
        path.parent.mkdir(parents=True)
        path.write_text("half")
        os.utime(path, (time.time() - age,) * 2)
        (path.parent / "whole.json").write_text("{}")
    [finding] = _check_leftovers(settings)
    assert finding.finding == "2 half-written files removed"
    assert sorted(path.parent.name for path in tmp_path.rglob("*.part")) == ["data", "runs"]
    assert len(list(tmp_path.rglob("whole.json"))) == 4


def test_a_store_elsewhere_has_no_files_here(root, tmp_path):
    settings = replace(load_settings(root, environ={}), run_store=str(tmp_path), data_store="memory://data",
                       release_store="memory://releases", site=str(tmp_path / "site"))
    [finding] = _check_leftovers(settings)
    assert finding.finding == "none"


def test_a_problem_with_a_fault_hides_no_other(root, tmp_path):
    settings = replace(load_settings(root, environ={}), run_store=str(tmp_path / "run"),
                       release_store=str(tmp_path / "releases"), tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    promotion = Event(1, "promote", 1, None, "2026-01-02T03:04:05+00:00", "ada", "", "ci")
    add_event(Store(settings.release_store), "houses", lambda number, champion: promotion)
    found = {one.subject: one for one in _check_problems(settings)}
    assert [name for name, one in found.items() if one.is_good] == ["flights", "iris"]
    assert "Release 1 of 'houses', which is to serve, has lost its manifest" in found["houses"].finding
    assert "cd4ml unpack" in found["houses"].fix
    assert "cd4ml unpack" not in found["houses"].finding
