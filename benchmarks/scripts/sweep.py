"""Run the training notebook once a variant, two at a time: sweep.py NOTEBOOK FOLDER RATE:LEAVES ..."""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cd4ml.delivery.execution import Work, execute_notebook
from cd4ml.delivery.kernels import Execution

notebook, folder, *variants = sys.argv[1:]


def run_variant(variant: str) -> None:
    """Execute one variant in a folder of its own."""
    rate, leaves = variant.split(":")
    place = Path(folder) / variant.replace(":", "-")
    place.mkdir(exist_ok=True)
    rows = str(Path(notebook).with_name("rows.parquet"))
    params = {"path": rows, "learning_rate": float(rate), "max_leaf_nodes": int(leaves)}
    execute_notebook(Work(Path(notebook), place, params, Execution(threads=1)))


with ThreadPoolExecutor(2) as pool:
    list(pool.map(run_variant, variants))
