"""kill -9 at any moment: every store reads, the champion is the old or the new one and whole, the next command goes on.

A warm process forks itself for each try, so that a try takes a fraction of a second. Half of them are killed after a
random time, half just before a random one of the calls that change a folder.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("killing.py")
KILLS = {"release": 20, "promote": 10, "rollback": 90, "prune": 80, "site": 10}  # 210 in all


@pytest.fixture(scope="module")
def prepared(shared_workbench):
    """Return a workbench with a champion, and a run that was not released yet."""
    shared_workbench.call_json("release", "iris")
    shared_workbench.call_json("run", "iris", "-p", "train.C=0.5")
    return shared_workbench


@pytest.mark.slow
@pytest.mark.parametrize("action", KILLS)
def test_whenever_it_is_killed_nothing_is_lost_and_the_next_command_goes_on(prepared, action):
    words = [sys.executable, str(SCRIPT), str(prepared.folder), action, str(KILLS[action]), "2026"]
    environ = {**prepared.environ, "OMP_NUM_THREADS": "1"}  # a fork of a process with threads may hang
    done = subprocess.run(words, env=environ, capture_output=True, text=True, timeout=1800, cwd=prepared.folder)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert not told["faults"], done.stderr
    assert told["killed"] == KILLS[action]
