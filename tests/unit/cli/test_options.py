import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from cd4ml.cli.options import complete_problem, complete_run


def test_the_tab_key_knows_problems_and_is_silent_elsewhere(root, tmp_path, monkeypatch):
    monkeypatch.chdir(root)
    assert complete_problem("fl") == ["flights"]
    monkeypatch.chdir(tmp_path)
    assert complete_problem("") == []


def test_the_tab_key_knows_the_runs_of_the_problem(root, tmp_path, monkeypatch):
    context = SimpleNamespace(params={"problem": "iris"})
    monkeypatch.chdir(tmp_path)
    assert complete_run(context, "") == []
    monkeypatch.chdir(root)
    monkeypatch.setenv("CD4ML_RUN_STORE", str(tmp_path))
    assert complete_run(context, "") == []
    for run_id in ("20260101-a", "20260102-b", "20260102-c"):
        (tmp_path / "runs/iris" / run_id).mkdir(parents=True)
        (tmp_path / "runs/iris" / run_id / "run.json").touch()
    (tmp_path / "runs/iris/20260103-unfinished").mkdir()
    assert complete_run(context, "20260102") == ["20260102-c", "20260102-b"]
    assert complete_run(SimpleNamespace(params={"problem": "houses"}), "") == []


@pytest.mark.parametrize(("line", "found"), [
    ("cd4ml run fl", ["flights"]), ("cd4ml run flights --params wi", ["wider"]),
    ("cd4ml run --force flights -p train.max_iter=5 --params wi", ["wider"]), ("cd4ml run --params wi", [])])
def test_the_tab_key_completes_a_line_that_is_not_finished(root, line, found):
    words = line.split()
    environ = {**os.environ, "_CD4ML_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    done = subprocess.run([str(Path(sys.executable).parent / "cd4ml")], cwd=root, env=environ, text=True, check=True,
                          capture_output=True)
    assert done.stdout.split() == found
