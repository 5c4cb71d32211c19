"""A sweep on a dask cluster: a scheduler and two workers as processes of their own, in folders of their own."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from waiting import find_port, wait_until

pytestmark = pytest.mark.slow

# What a worker may not find on its own: it has the installation and nothing else.
ENVIRON = {name: value for name, value in os.environ.items() if not name.startswith("CD4ML_")}


class Farm:
    """A scheduler and its workers."""

    def __init__(self, folder):
        self.folder, self.port, self.processes = folder, find_port(), {}
        self.address = f"tcp://127.0.0.1:{self.port}"
        self.start("scheduler", "scheduler", "--host", "127.0.0.1", "--port", str(self.port), "--no-dashboard")

    def start(self, name, *words):
        place = self.folder / name
        place.mkdir()
        log = open(place / "log", "w")  # noqa: SIM115
        self.processes[name] = subprocess.Popen([sys.executable, "-m", "dask", *words], cwd=place, env=ENVIRON,
                                                stdout=log, stderr=log, start_new_session=True)

    def start_worker(self, name):
        place = str(self.folder / name)
        self.start(name, "worker", self.address, "--host", "127.0.0.1", "--nthreads", "1", "--no-dashboard",
                   "--local-directory", place, "--name", name)

    def kill(self, name):
        os.killpg(self.processes.pop(name).pid, signal.SIGKILL)

    def count_workers(self):
        from distributed import Client

        with Client(self.address, timeout=60, set_as_default=False) as client:
            return len(client.nthreads())


@pytest.fixture
def farm(tmp_path_factory):
    """Return a cluster with two workers."""
    farm = Farm(tmp_path_factory.mktemp("farm"))
    try:
        farm.start_worker("one")
        farm.start_worker("two")
        wait_until(lambda: farm.count_workers() == 2, f"two workers: see {farm.folder}/*/log", 90)
        yield farm
    finally:
        for name in list(farm.processes):
            farm.kill(name)


def slow_down(notebook):
    """Let the notebook say where it runs, and take its time."""
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    first = next(cell for cell in cells if "parameters" not in cell["metadata"].get("tags", ()))
    first["source"] = ["import os, time\n", "print('ran in', os.getcwd())\n", "time.sleep(3)\n", *first["source"]]


def test_a_sweep_survives_the_loss_of_a_worker_and_its_results_come_home(workbench, farm):
    workbench.edit_notebook("train", slow_down)
    process = workbench.start("sweep", "iris", "-p", "train.C=0.1,1,10,100", "--on", f"dask+{farm.address}", "--json")
    until = time.monotonic() + 120
    while not list((farm.folder / "two").rglob("train-*")):
        assert time.monotonic() < until
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    farm.kill("two")
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    found = json.loads(out)
    assert len(found["selection"]["ranking"]) == 4
    for one in found["variants"]:
        page = (workbench.folder / ".cd4ml" / "steps" / one["steps"][1]["key"] / "train.html").read_text()
        assert str(farm.folder / "one") in page, "it was to run on the worker that was left"
    assert not list((workbench.folder / ".cd4ml" / "data" / "away").rglob("*.*")), "the store was not tidied up"
    best = next(one for one in found["variants"] if one["name"] == found["selection"]["ranking"][0]["name"])
    run = workbench.call_json("run", "iris", *best["words"])
    assert [step["status"] for step in run["steps"]] == ["cached"] * 3, "what came home is what is found"


def test_a_step_that_fails_far_away_comes_home_with_its_notebook(workbench, farm):
    def spoil(notebook):
        slow_down(notebook)
        cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
        cells[1]["source"].insert(0, "if options.get('C') == 1: raise ValueError('bad from afar')\n")

    workbench.edit_notebook("train", spoil)
    found = workbench.call_json("sweep", "iris", "-p", "train.C=0.1,1,10", "--on", f"dask+{farm.address}", code=1)
    (bad,) = [one for one in found["variants"] if one["error"]]
    assert "bad from afar" in bad["error"]
    assert "bad from afar" in Path(bad["report"]).read_text()
    assert len(found["selection"]["ranking"]) == 2


def test_ctrl_c_ends_what_runs_far_away(workbench, farm, tmp_path):
    def linger(notebook):
        slow_down(notebook)
        cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
        cells[1]["source"][2] = f"open({str(tmp_path)!r} + f'/{{os.getpid()}}', 'w').close(); time.sleep(600)\n"

    workbench.edit_notebook("train", linger)
    process = workbench.start("sweep", "iris", "-p", "train.C=0.1,1,10", "--on", f"dask+{farm.address}")
    wait_until(lambda: len(list(tmp_path.glob("[0-9]*"))) == 2, "two notebooks run", 120)
    running = [int(path.name) for path in tmp_path.glob("[0-9]*")]
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in running), "they are gone", 30)
    assert farm.count_workers() == 2
    assert len(list(tmp_path.glob("[0-9]*"))) == 2, "the third was not begun"
    assert not list((workbench.folder / ".cd4ml" / "data" / "away").rglob("*.*")), "the store was not tidied up"


def test_no_scheduler_is_said_at_once(workbench):
    code, _, err = workbench.call("sweep", "iris", "-p", "train.C=0.1,1", "--on", f"dask+tcp://127.0.0.1:{find_port()}")
    assert code == 2
    assert "No scheduler answers" in err
    code, _, err = workbench.call("sweep", "iris", "-p", "train.C=0.1,1", "--on", "127.0.0.1:8786")
    assert code == 2
    assert "dask+tcp://scheduler:8786" in err
