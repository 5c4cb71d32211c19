"""The notebooks that the benchmarks run."""

from pathlib import Path

ABOUT = {"kernelspec": {"name": "python3", "display_name": "Python", "language": "python"}}
TRAINING = Path(__file__).parent / "scripts/training.py"


def write_cells(path: Path, count: int) -> Path:
    """Write a notebook of so many cells that do nothing, yet are executed."""
    from nbformat import v4, write

    write(v4.new_notebook(metadata=ABOUT, cells=[v4.new_code_cell("pass") for _ in range(count)]), path)
    return path


def write_training(folder: Path, size: int) -> Path:
    """Write the training notebook, made of the cells of scripts/training.py, and `size` rows for it to learn from."""
    import numpy as np
    import pandas as pd
    from nbformat import v4, write

    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.random((size, 20)), columns=[f"x{i}" for i in range(20)])
    X.assign(y=rng.random(size) < X["x0"] * X["x1"]).to_parquet(folder / "rows.parquet")
    cells = TRAINING.read_text(encoding="utf-8").split("\n# %%")[1:]
    made = [v4.new_code_cell(cell.partition("\n")[2].strip(), metadata={"tags": cell.partition("\n")[0].split()})
            for cell in cells]
    write(v4.new_notebook(metadata=ABOUT, cells=made), folder / "training.ipynb")
    return folder / "training.ipynb"
