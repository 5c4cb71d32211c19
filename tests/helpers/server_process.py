"""What tests of servers share: a small release, and the command that serves it."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from cd4ml.base.fingerprint import hash_bytes
from cd4ml.base.store import Store
from cd4ml.delivery.export import export_model
from cd4ml.delivery.history import Event, add_event
from cd4ml.delivery.manifest import Release
from cd4ml.model.training import dump_model

ROOT = Path(__file__).resolve().parents[2]
COMMAND = str(Path(sys.executable).parent / "cd4ml")
PROBLEM = "flights"  # a name that the command knows
LISTING = """
import sys
from cd4ml.cli.main import main
try:
    main(sys.argv[1:])
finally:
    print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""  # the command, which tells at its end what it has imported


def write_release(store: Store, model: Any, rows: pd.DataFrame, version: int = 1, *, is_portable: bool = False,
                  more: Mapping[str, bytes] | None = None) -> None:
    """Write a release of `model`, which answers `rows`, with the files `more`."""
    classes = tuple(value.item() for value in getattr(model, "classes_", ()))
    task = "binary" if classes else "regression"
    files = {"model/model.skops": dump_model(model), **(more or {})}
    files |= {"model/model.onnx": export_model(model, rows, task)} if is_portable else {}
    release = Release(PROBLEM, version, "2026-01-02T03:04:05+00:00", task, "y",
                      tuple((name, str(kind)) for name, kind in rows.dtypes.items()), classes,
                      {"decision": {"status": "pass"}, "metrics": {}, "report": "reports/evaluate.html"}, {}, None,
                      {path: hash_bytes(data) for path, data in files.items()})
    for path, data in {**files, "manifest.json": release.to_json()}.items():
        store.write(f"{release.folder}/{path}", data)


def promote(store: Store, version: int = 1) -> None:
    """Make a release the champion."""
    add_event(store, PROBLEM, lambda number, champion: Event(number, "promote", version, champion, "", "ada", "", "ci"))


@contextmanager
def serve(store: Store, *options: str, start: Sequence[str] = (COMMAND,),
          **environ: str) -> Iterator[tuple[subprocess.Popen, str]]:
    """Give the process that serves `store`, logging beside it, and its address as soon as it says so; end by a kill.

    What it said until then is the process's `said`.
    """
    folder = Path(store.url).parent
    places = {"CD4ML_ROOT": str(ROOT), "CD4ML_RELEASE_STORE": store.url, "CD4ML_RUN_STORE": str(folder / "runs"),
              "CD4ML_PREDICTION_LOG": str(folder / "predictions")}
    process = subprocess.Popen([*start, "serve", PROBLEM, "--port", "0", *options], env=os.environ | places | environ,
                               text=True, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        said = ""
        while not (found := re.search(r"(https?://\S+?)/ ", said)):
            line = process.stderr.readline()
            assert line, said
            said += line
        process.said = said
        yield process, found[1]
    finally:
        process.kill()
        process.communicate()
