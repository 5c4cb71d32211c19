"""What running one notebook costs: warm, through papermill's own command, and beside the same code as a script."""

import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path

from notebooks import TRAINING, write_cells, write_training
from pairs import Job, Row, at_most, command, faster, make_row, time_jobs, time_pair, within

# papermill's command without the grammar that jsonschema compiles as soon as JupyterLab is installed
PLAIN = "import sys; sys.modules['rfc3987_syntax'] = None; from papermill.cli import papermill; papermill()"
LEAN = "papermill as if without JupyterLab"
COLD = """
import sys
from pathlib import Path
from cd4ml.delivery.execution import Work, execute_notebook
execute_notebook(Work(Path(sys.argv[1]), Path(sys.argv[2]), {"path": sys.argv[3]}))
"""


def execute(notebook: Path, params: dict[str, str] | None = None) -> Job:
    """Return the job of executing `notebook` into a new folder, as a further one of a delivery."""
    from cd4ml.delivery.execution import Work, execute_notebook

    numbers = itertools.count()

    def run() -> None:
        folder = notebook.parent / f"{notebook.stem}-{next(numbers)}"
        folder.mkdir()
        execute_notebook(Work(notebook, folder, params or {}))

    return run


def measure(turns: int) -> Iterator[Row]:
    """Measure everything."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        empty, hundred = write_cells(folder / "empty.ipynb", 0), write_cells(folder / "hundred.ipynb", 100)
        yield from measure_warm(empty, hundred, turns)
        yield from measure_engine(empty, hundred, turns)
        yield from measure_training(folder, turns)


def measure_warm(empty: Path, hundred: Path, turns: int) -> Iterator[Row]:
    """Measure a further notebook of a delivery beside papermill's command."""
    jobs = {"ours": execute(empty), "ours, 100": execute(hundred)}
    for name, words in (("papermill", ("papermill",)), ("plain", ("python", "-c", PLAIN))):
        jobs |= {name: command(*words, empty, empty.with_name("out.ipynb")),
                 f"{name}, 100": command(*words, hundred, hundred.with_name("out.ipynb"))}
    found = time_jobs(jobs, turns)
    for name, peer in (("papermill", "papermill, the command"), ("plain", LEAN)):
        yield make_row(f"a further notebook, empty | {peer}", (found["ours"], found[name]), at_most(0.15), faster(10))
        cell = [(found[f"{who}, 100"] - found[who]) / 100 for who in ("ours", name)]
        yield make_row(f"each of 100 cells that do nothing | {peer}", (cell[0], cell[1]), at_most(0.001))


def measure_engine(empty: Path, hundred: Path, turns: int) -> Iterator[Row]:
    """Measure papermill's command with our engine beside the same command without, in both of its environments."""
    for words, peer, enough in ((("papermill",), "papermill, the command", 1), (("python", "-c", PLAIN), LEAN, 2.5)):
        for notebook, size, bound in ((empty, "empty", faster(1)), (hundred, "100 cells", faster(enough))):
            given = (notebook, notebook.with_name("out.ipynb"))
            found = time_pair(command(*words, "--engine", "cd4ml", *given), command(*words, *given), turns)
            yield make_row(f"the same with --engine cd4ml, {size} | {peer}", found, bound)


def measure_training(folder: Path, turns: int) -> Iterator[Row]:
    """Measure a notebook that trains beside the same code as a script."""
    notebook = write_training(folder, 2_000 if turns == 1 else 100_000)
    rows, out = str(folder / "rows.parquet"), folder / "cold"
    out.mkdir()
    found = time_jobs({"script": command("python", TRAINING, cwd=folder), "warm": execute(notebook, {"path": rows}),
                       "cold": command("python", "-c", COLD, notebook, out, rows)}, turns)
    for way, words in (("warm", "a further training notebook"), ("cold", "a training notebook, from nothing")):
        yield make_row(f"{words} | the same code as a script", (found[way], found["script"]), within(1.05, 0.2))
