"""What the doctor finds, and what it takes away."""

import os
import time
from dataclasses import replace

from cd4ml.base.settings import load_settings
from cd4ml.delivery.checkup import _check_leftovers


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
