"""Two jobs timed in turn in one run, whether the stated bound is kept, and the record of all such pairs."""

import datetime as dt
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
PACKAGES = ("cd4ml", "papermill", "jupyterlab", "nbclient", "ipykernel", "scikit-learn", "mlflow", "scipy")
ENVIRON = {**os.environ, "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "passive"),
           "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "PYTHONDONTWRITEBYTECODE": ""}
Job = Callable[[], object]


@dataclass(frozen=True)
class Bound:
    """Say in words what was promised of `ours` beside `theirs` [s], and tell whether it is so."""

    words: str
    is_kept: Callable[[float, float], bool]


def at_most(seconds: float) -> Bound:
    """Return the bound on ours alone."""
    words = f"≤ {seconds:g} s" if seconds >= 0.1 else f"≤ {seconds * 1000:g} ms"
    return Bound(words, lambda ours, theirs: ours <= seconds)


def faster(times: float) -> Bound:
    """Return the bound of being so many times as fast as theirs."""
    words = f"≥ {times:g} times faster" if times > 1 else "not slower"
    return Bound(words, lambda ours, theirs: theirs >= ours * times)


def within(times: float, plus: float = 0.0) -> Bound:
    """Return the bound of taking at most so many times as long as theirs, and `plus` [s]."""
    words = f"≤ {times:g} × theirs" + (f" + {plus:g} s" if plus else "")
    return Bound(words, lambda ours, theirs: ours <= theirs * times + plus)


@dataclass(frozen=True)
class Row:
    """Hold one comparison: what `ours` and `theirs` [s] did, and theirs over ours; none if it was skipped."""

    what: str
    peer: str
    ours: float | None
    theirs: float | None
    ratio: float | None
    bound: str
    kept: bool | None
    note: str = ""


def make_row(pair: str, seconds: tuple[float, float], *bounds: Bound, note: str = "") -> Row:
    """Return the row of a `pair`, "ours | theirs", that took so many `seconds`."""
    (what, peer), (ours, theirs) = pair.split(" | "), seconds
    kept = all(bound.is_kept(ours, theirs) for bound in bounds) if bounds else None
    return Row(what, peer, ours, theirs, theirs / ours, ", ".join(one.words for one in bounds), kept, note)


def skip_row(pair: str, reason: str) -> Row:
    """Return the row of a `pair` that could not be measured."""
    what, peer = pair.split(" | ")
    return Row(what, peer, None, None, None, "", None, f"skipped: {reason}")


def time_jobs(jobs: Mapping[str, Job], turns: int, rehearse: bool = True) -> dict[str, float]:
    """Return the median seconds of each job, all called in turn, after a rehearsal unless there is but one turn.

    A job that returns a number has timed itself.
    """
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    rehearsals = int(rehearse and turns > 1)
    for turn in range(turns + rehearsals):
        for name, job in jobs.items():
            began = time.perf_counter()
            own = job()
            spent = time.perf_counter() - began
            if turn >= rehearsals:
                seconds[name].append(own if isinstance(own, float) else spent)
    return {name: statistics.median(values) for name, values in seconds.items()}


def time_pair(ours: Job, theirs: Job, turns: int) -> tuple[float, float]:
    """Return the median seconds of both; see `time_jobs`."""
    found = time_jobs({"ours": ours, "theirs": theirs}, turns)
    return found["ours"], found["theirs"]


def command(*words: str | Path, cwd: Path = ROOT, environ: Mapping[str, str] | None = None) -> Job:
    """Return a job that runs a command of this environment, and fails if it does."""
    program = BIN / words[0] if isinstance(words[0], str) else words[0]

    def run() -> None:
        done = subprocess.run([program, *words[1:]], cwd=cwd, env={**ENVIRON, **(environ or {})}, capture_output=True,
                              text=True)
        if done.returncode:
            raise RuntimeError(f"{' '.join(map(str, words))} ended with {done.returncode}: {done.stderr[-2000:]}")

    return run


def isolate(folder: Path) -> dict[str, str]:
    """Return the environment in which cd4ml keeps all that it makes below `folder`."""
    return {"CD4ML_RUN_STORE": f"{folder}/run", "CD4ML_DATA_STORE": f"{folder}/data",
            "CD4ML_RELEASE_STORE": f"{folder}/releases", "CD4ML_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}


def show_rows(rows: Iterable[Row]) -> None:
    """Print one line a row."""
    from rich.console import Console
    from rich.table import Table

    table = Table("ours", "theirs", "ours [s]", "theirs [s]", "theirs / ours", "bound", "kept")
    for row in rows:
        figures = ["" if one is None else f"{one:.3g}" for one in (row.ours, row.theirs, row.ratio)]
        kept = {None: "", True: "yes", False: "NO"}[row.kept]
        table.add_row(row.what, row.peer, *figures, row.bound or row.note, kept)
    Console(width=170).print(table)


def write_record(rows: Iterable[Row], turns: int, path: Path) -> None:
    """Write all rows with the facts that they depend on; nothing says whose machine it was."""
    machine = {"cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
               "python": platform.python_version(), "system": platform.system()}
    record = {"format": 2, "at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"), "machine": machine,
              "versions": {name: metadata.version(name) for name in PACKAGES}, "turns": turns,
              "rows": [asdict(row) for row in rows]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
