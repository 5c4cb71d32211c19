"""What a delivery costs beside a bare script that computes the same, and what asking again costs beside dvc."""

import itertools
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from notebooks import write_cells
from pairs import BIN, ENVIRON, ROOT, Row, at_most, command, faster, isolate, make_row, skip_row, time_pair, within

PEERS = ROOT / "benchmarks/.peers/dvc"
STAGES = """stages:
  prepare: {cmd: cp a b, deps: [a], outs: [b]}
  train: {cmd: cp b c, deps: [b], outs: [c]}
  evaluate: {cmd: cp c d, deps: [c], outs: [d]}
"""


def measure(turns: int) -> Iterator[Row]:
    """Measure everything; with one turn, on iris for flights."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        problem = "iris" if turns == 1 else "flights"
        yield from measure_first(folder, problem, turns)
        yield from measure_again(folder, problem, turns)


def measure_first(folder: Path, problem: str, turns: int) -> Iterator[Row]:
    """Measure a delivery from an empty cache beside scripts/delivery.py."""
    numbers = itertools.count()

    def run() -> None:
        command("cd4ml", "run", problem, environ=isolate(folder / str(next(numbers))))()

    script = command("python", ROOT / "benchmarks/scripts/delivery.py", problem, folder)
    yield make_row(f"cd4ml run {problem}, empty cache | a bare script that computes the same",
                   time_pair(run, script, turns), within(1.15))


def measure_again(folder: Path, problem: str, turns: int) -> Iterator[Row]:
    """Measure an unchanged delivery of three steps beside dvc's three unchanged stages, and papermill."""
    ours = command("cd4ml", "run", problem, environ=isolate(folder / "0"))
    ours()  # it ran there before; this first answer is worked out, the next ones are remembered
    pair = "cd4ml run, nothing changed | dvc repro, three stages, nothing changed"
    dvc = find_dvc()
    if dvc is None:
        yield skip_row(pair, "dvc cannot be installed")
    else:
        place = folder / "dvc"
        place.mkdir()
        (place / "dvc.yaml").write_text(STAGES)
        shutil.copy(__file__, place / "a")
        for words in (("init", "--no-scm", "--quiet"), ("config", "core.analytics", "false"), ("repro",)):
            command(dvc, *words, cwd=place)()
        yield make_row(pair, time_pair(ours, command(dvc, "repro", cwd=place), turns), at_most(0.25), faster(1))
    notebook = write_cells(folder / "empty.ipynb", 0)
    theirs = command("papermill", notebook, folder / "out.ipynb")
    yield make_row("cd4ml run, nothing changed | papermill, one empty notebook", time_pair(ours, theirs, turns))


def find_dvc() -> Path | None:
    """Return the program in an environment of its own, made if need be; none if it cannot be had."""
    dvc = PEERS / "bin/dvc"
    if not dvc.exists():
        for words in (["venv", "--quiet", "--clear", PEERS],
                      ["pip", "install", "--quiet", "--compile-bytecode", "--python", PEERS / "bin/python", "dvc"]):
            done = subprocess.run([BIN / "python", "-m", "uv", *words], env=ENVIRON, capture_output=True, text=True)
            if done.returncode:
                return None
    return dvc
