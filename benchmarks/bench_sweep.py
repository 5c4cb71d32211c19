"""What a sweep costs beyond the fits themselves, and beside papermill's processes in parallel."""

import itertools
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from notebooks import write_training
from pairs import BIN, ENVIRON, ROOT, Row, command, faster, make_row, time_jobs, within

CORES = 2
VARIANTS = [f"{rate}:{leaves}" for rate, leaves in itertools.product((0.03, 0.1, 0.2, 0.3), (15, 23, 31, 47))]
ONE = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # of each process: two of them fill two cores


def measure(turns: int) -> Iterator[Row]:
    """Measure everything, with short fits and with long ones; with one turn, few variants of few rows."""
    variants = VARIANTS[:2] if turns == 1 else VARIANTS
    with tempfile.TemporaryDirectory() as place:
        for name, size in (("short", 50_000), ("long", 200_000)):
            folder = Path(place) / name
            folder.mkdir()
            yield from measure_size(folder, 2_000 if turns == 1 else size, variants, min(turns, 3))


def measure_size(folder: Path, size: int, variants: Sequence[str], turns: int) -> Iterator[Row]:
    """Measure fits on `size` rows."""
    notebook = write_training(folder, size)
    found = time_jobs({"ours": lambda: sweep(notebook, folder, variants), "fits": lambda: fit(notebook, variants),
                       "papermill": lambda: sweep_with_papermill(notebook, folder, variants)}, turns, rehearse=False)
    ours, fits, papermill = (found[name] for name in ("ours", "fits", "papermill"))
    what = f"a sweep of {len(variants)} variants, {CORES * fits / len(variants):.1f} s a fit"
    yield make_row(f"{what} | the fits alone, perfectly parallel", (ours, fits), within(1.25))
    yield make_row(f"{what} | papermill, {CORES} processes at a time", (ours, papermill), faster(4))


def sweep(notebook: Path, folder: Path, variants: Sequence[str]) -> None:
    """Run all variants as a command that starts from nothing."""
    command("python", ROOT / "benchmarks/scripts/sweep.py", notebook, folder, *variants)()


def sweep_with_papermill(notebook: Path, folder: Path, variants: Sequence[str]) -> None:
    """Run all variants by papermill's command, as many at a time as there are cores."""
    jobs = []
    for variant in variants:
        rate, leaves = variant.split(":")
        given = ["-p", "learning_rate", rate, "-p", "max_leaf_nodes", leaves, "-p", "path", folder / "rows.parquet"]
        jobs.append(command("papermill", notebook, folder / f"{rate}-{leaves}.ipynb", *given, environ=ONE))
    with ThreadPoolExecutor(CORES) as pool:
        list(pool.map(lambda job: job(), jobs))


def fit(notebook: Path, variants: Sequence[str]) -> float:
    """Return the seconds that all fits take if nothing else were to be done and no core ever waited."""
    words = [BIN / "python", ROOT / "benchmarks/scripts/fits.py", notebook.with_name("rows.parquet")]
    running = [subprocess.Popen([*words, *variants[core::CORES]], env={**ENVIRON, **ONE}, stdout=subprocess.PIPE,
                                text=True) for core in range(CORES)]
    return sum(float(process.communicate()[0]) for process in running) / CORES
