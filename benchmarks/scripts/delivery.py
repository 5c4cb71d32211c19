"""Do the computing of `cd4ml run` as one bare script, delivery.py PROBLEM FOLDER: no cache, report, snapshot or MLflow.

It runs the code of the step notebooks on the same parameters in one process, hands everything on in memory, and writes
the model, the figures and one JSON file of results into the folder.
"""

import json
import sys
from pathlib import Path
from typing import Any, ClassVar

from cd4ml.base.params import read_declared
from cd4ml.base.settings import load_settings
from cd4ml.delivery import steps
from cd4ml.model.problem import find_problem
from cd4ml.model.training import dump_model, load_model

out, settings = Path(sys.argv[2]), load_settings(Path(__file__).resolve().parents[2])
params = steps.resolve_problem_params(settings, find_problem(sys.argv[1], settings.package))


class Memory:
    """Stand in for a step: what one records, the next one reads."""

    inputs: ClassVar[dict[str, Any]] = {}  # no champion
    results: ClassVar[dict[str, Any]] = {}

    def has(self, name: str) -> bool:
        """Tell whether a notebook before recorded `name`."""
        return name in self.results

    def read_value(self, name: str) -> Any:
        """Return what was recorded as `name`."""
        return self.results[name]

    def read_model(self, name: str) -> Any:
        """Return the model that was recorded as `name`."""
        return load_model(self.results[name])

    def record_value(self, name: str, value: Any) -> None:
        """Keep `value` as `name`."""
        self.results[name] = value

    def record_model(self, name: str, model: Any) -> None:
        """Write `model` and keep it as `name`."""
        self.results[name] = dump_model(model)
        (out / f"{name}.skops").write_bytes(self.results[name])

    def record_file(self, name: str, data: bytes, suffix: str) -> None:
        """Write `data` into the folder and keep it as `name`."""
        self.results[name] = data
        (out / f"{name}{suffix}").write_bytes(data)

    read_frame = read_file = read_value
    record_frame = record_value


steps.open_step = lambda name, problem, watch=None: Memory()  # type: ignore[assignment,return-value]
for name in steps.STEPS:
    path = settings.notebooks / f"{name}.ipynb"
    given = params.select_step(name, read_declared(path))
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code" and "parameters" not in cell["metadata"].get("tags", ()):
            exec("".join(cell["source"]), given)

plain = {name: value for name, value in Memory.results.items() if isinstance(value, dict)}
(out / "results.json").write_text(json.dumps(plain))
