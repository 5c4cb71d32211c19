"""A random forest on the columns of a problem, in the forms of cd4ml, of MLflow's server and of BentoML."""

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from pairs import ROOT

PEERS = ROOT / "benchmarks/.peers"


def write_forest(folder: Path, name: str, trees: int) -> Any:
    """Write a release of the problem `name` into `folder`, promoted, its peers beside it; return rows to ask."""
    import joblib
    import mlflow
    from bench_portable import read_rows
    from mlflow.models import infer_signature
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.pipeline import make_pipeline

    from cd4ml.model.problem import find_problem

    problem, rows = find_problem(name), read_rows(name)
    X, y = rows[list(problem.features)], rows[problem.target]
    columns = problem.build_model(problem.params().train)[:-1]
    model = make_pipeline(columns, RandomForestClassifier(trees, min_samples_leaf=20, n_jobs=1, random_state=0))
    model.fit(X[:20_000], y[:20_000])
    write_release(folder, problem, model, X)
    joblib.dump(model, folder / "model.joblib")
    mlflow.sklearn.save_model(model, folder / "mlmodel", serialization_format="cloudpickle", pip_requirements=[],
                              signature=infer_signature(X, model.predict_proba(X[:9])),
                              pyfunc_predict_fn="predict_proba")
    return X


def write_release(folder: Path, problem: Any, model: Any, X: Any) -> None:
    """Write and promote release 1 of `problem`, without the evidence that a delivery would add."""
    from cd4ml.base.fingerprint import hash_bytes
    from cd4ml.base.store import Store
    from cd4ml.delivery.export import export_model
    from cd4ml.delivery.history import Event, add_event
    from cd4ml.delivery.manifest import Release
    from cd4ml.model.training import dump_model

    store = Store(str(folder / "releases"))
    files = {"model/model.skops": dump_model(model), "model/model.onnx": export_model(model, X, problem.task)}
    features = tuple((one, str(kind)) for one, kind in X.dtypes.items())
    run = {"decision": {"status": "pass"}, "metrics": {}}
    release = Release(problem.name, 1, "2026-01-02T03:04:05+00:00", problem.task, problem.target, features,
                      tuple(value.item() for value in model.classes_), run, {}, None,
                      {path: hash_bytes(data) for path, data in files.items()})
    for path, data in {**files, "manifest.json": release.to_json()}.items():
        store.write(f"{release.folder}/{path}", data)
    add_event(store, problem.name,
              lambda number, champion: Event(number, "promote", 1, champion, "", "bench", "", "bench"))


def find_bentoml() -> Path | None:
    """Return the command of BentoML, in an environment that is made when it is first needed; none if it cannot be."""
    bentoml = PEERS / "bentoml/bin/bentoml"
    if not bentoml.exists():
        pins = [f"{name}=={metadata.version(name)}" for name in ("scikit-learn", "pandas", "numpy")]
        uv = [sys.executable, "-m", "uv", "--quiet"]
        for words in (["venv", "--clear", "--python", sys.executable, str(PEERS / "bentoml")],
                      ["pip", "install", "--python", str(PEERS / "bentoml/bin/python"), "bentoml", *pins]):
            if subprocess.run([*uv, *words], capture_output=True, env={**os.environ, "UV_NO_PROGRESS": "1"}).returncode:
                return None
    return bentoml
