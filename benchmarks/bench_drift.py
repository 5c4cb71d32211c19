"""Drift of twenty features against a stored profile, and the page of monitoring, beside Evidently's preset."""

import datetime as dt
import json
import math
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from bench_batch import prepare_flights
from pairs import BIN, ENVIRON, ROOT, Bound, Row, faster, isolate, make_row, skip_row, time_pair

if TYPE_CHECKING:
    import pandas as pd

PEER = ROOT / "benchmarks/.peers-evidently"
PACKAGES = ("evidently==0.7.*", "pandas<3")
LEFT_OUT = ("dest_alt", "departure")  # flights has 22 features
SIZE = 300_000  # of the page [bytes]
PAIRS = ("drift of {} features, {:,} rows, against a profile in its file | Evidently's preset, {:,} rows of then",
         "the page of monitoring, run by papermill | the same preset, written as a page")


def measure(turns: int) -> Iterator[Row]:
    """Measure values and page; with one turn, on a tenth of the rows."""
    from cd4ml.model.problem import find_problem

    problem, rows = find_problem("flights"), (100_000, 10_000) if turns > 1 else (10_000, 1_000)
    flights = prepare_flights(problem).sort_values("date", kind="stable")
    is_early = flights["date"] < "2013-07-01"
    then, now = (part.sample(count, random_state=1, ignore_index=True) for part, count in
                 ((flights[is_early], rows[0]), (flights[~is_early][:30_000], rows[1])))
    names = [name for name in problem.features if name not in LEFT_OUT]
    pairs = PAIRS[0].format(len(names), len(now), len(then)), PAIRS[1]
    if not (python := find_evidently()):
        yield from (skip_row(pair, "Evidently cannot be installed") for pair in pairs)
        return
    tables = then[names], now[names]
    with tempfile.TemporaryDirectory() as place, start_evidently(python, tables, Path(place)) as peer:
        yield measure_values(pairs[0], tables, Path(place), peer, turns)
        yield measure_page(pairs[1], (then, now), Path(place), peer, turns)


def find_evidently() -> Path | None:
    """Return the Python of an environment of its own, made if need be, as Evidently wants an older pandas."""
    python = PEER / "bin/python"
    if not (PEER / "bin/evidently").exists():
        for words in (["venv", "--quiet", "--clear", PEER],
                      ["pip", "install", "--quiet", "--compile-bytecode", "--python", python, *PACKAGES]):
            done = subprocess.run([BIN / "python", "-m", "uv", *words], env=ENVIRON, capture_output=True, text=True)
            if done.returncode:
                return None
    return python


@dataclass
class Peer:
    """Hold the process that answers for Evidently, and what it answered last."""

    process: subprocess.Popen[str]
    values: Mapping[str, Any]

    def run(self, page: Path | None = None) -> float:
        """Return the seconds of one run, with its page if one is wanted."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{page or ''}\n")
        self.process.stdin.flush()
        told = json.loads(self.process.stdout.readline())
        self.values = told["values"]
        return float(told["seconds"])

    def __enter__(self) -> "Peer":
        return self

    def __exit__(self, *error: object) -> None:
        self.process.communicate()


def start_evidently(python: Path, tables: "tuple[pd.DataFrame, pd.DataFrame]", place: Path) -> Peer:
    """Return the process that compares both tables, as often as it is asked."""
    paths = [place / "then.csv", place / "now.csv"]
    for table, path in zip(tables, paths, strict=True):
        table.to_csv(path, index=False)
    words = [python, ROOT / "benchmarks/scripts/evidently_drift.py", *paths, ",".join(list_categories(tables[0]))]
    return Peer(subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                 text=True, env={**ENVIRON, "DO_NOT_TRACK": "1"}), {})


def list_categories(table: "pd.DataFrame") -> list[str]:
    """Return the columns that are no numbers."""
    return [name for name in table if table[name].dtype.kind not in "if"]


def measure_values(pair: str, tables: "tuple[pd.DataFrame, pd.DataFrame]", place: Path, peer: Peer, turns: int) -> Row:
    """Measure both and hold their values against each other."""
    from cd4ml.data.drift import FeatureDrift, measure_drift
    from cd4ml.data.profile import Profile, profile_frame

    stored, (then, now) = place / "profile.json", tables
    stored.write_text(json.dumps(profile_frame(then).to_dict()))
    found: list[FeatureDrift] = []

    def run() -> None:
        found[:] = measure_drift(Profile.from_dict(json.loads(stored.read_text())), now)

    seconds = time_pair(run, peer.run, turns)
    apart = compare_values(found, peer.values)
    return make_row(pair, seconds, *((faster(100),) if turns > 1 else ()),
                    note=f"values differ by {apart:.4f} at most; profile {stored.stat().st_size / 1000:.0f} kB")


def compare_values(found: Any, values: Mapping[str, Any]) -> float:
    """Return the largest difference of a value; raise if one is beyond what a profile of points may miss."""
    gaps = {}
    for one in found:
        method, value = values[one.name]
        if "Wasserstein" in method:
            gaps[one.name] = abs(one.wasserstein_sd - value)
        elif "Jensen" in method and not one.missing_then and not one.missing_now:  # we count them, it leaves them out
            gaps[one.name] = abs(one.jensen_shannon * math.log(2) ** 0.5 - value)  # it takes natural logarithms
    if len(gaps) < 15 or max(gaps.values()) > 0.01:
        raise RuntimeError(f"values are not those of Evidently: {gaps}")
    return max(gaps.values())


def measure_page(pair: str, tables: "tuple[pd.DataFrame, pd.DataFrame]", place: Path, peer: Peer, turns: int) -> Row:
    """Measure the notebook of monitoring over a log of these rows, with what came of them."""
    from cd4ml.base.settings import load_settings
    from cd4ml.delivery.steps import resolve_problem_params
    from cd4ml.model.problem import find_problem
    from cd4ml.production.monitoring import run_monitoring

    problem, page, pages = find_problem("flights"), place / "page.html", list[Path]()
    with patch.dict(os.environ, {**isolate(place), "CD4ML_PREDICTION_LOG": f"{place}/log.db"}):
        settings = load_settings()
        write_production(settings, problem, *tables)
        resolved = resolve_problem_params(settings, problem, "default", [])
        seconds = time_pair(lambda: pages.append(Path(run_monitoring(
            settings, problem.name, resolved, dt.datetime.now(dt.UTC)).report)), lambda: peer.run(page), turns)
    ours, theirs = pages[-1].stat().st_size, page.stat().st_size
    return make_row(pair, seconds, Bound("≤ 300 kB", lambda *_: ours <= SIZE),
                    note=f"{ours / 1000:.0f} kB against {theirs / 1000:,.0f}")


def write_production(settings: Any, problem: Any, then: "pd.DataFrame", now: "pd.DataFrame") -> None:
    """Write a release that learned from `then`, a log in which it answered `now`, and what came of it."""
    from cd4ml.base.fingerprint import hash_bytes
    from cd4ml.base.store import Store
    from cd4ml.data.profile import profile_frame
    from cd4ml.delivery.history import Event, add_event
    from cd4ml.delivery.manifest import Release
    from cd4ml.model.evaluation import Scored, evaluate_predictions
    from cd4ml.model.training import predict_rows
    from cd4ml.production.outcomes import OutcomeLog, Told
    from cd4ml.production.predictions import Prediction, PredictionLog

    features = list(problem.features)
    model = problem.build_model(problem.params().train).fit(then[features], then[problem.target])
    held, answers = (predict_rows(model, part[features], problem.task) for part in (then, now))
    promised = evaluate_predictions(Scored(then[problem.target], held, problem.task, then[problem.unit]))
    kept = {"profile.json": profile_frame(then, features, then[problem.unit]).to_dict(),
            "predictions.json": profile_frame(held, unit=then[problem.unit]).to_dict(),
            "metrics.json": {name: one.to_dict() for name, one in promised.items()}}
    files = {path: json.dumps(value).encode() for path, value in kept.items()}
    store, kinds = Store(settings.release_store), tuple((name, str(then[name].dtype)) for name in features)
    release = Release(problem.name, 1, "2026-01-02", problem.task, problem.target, kinds, (False, True), {}, {}, None,
                      {path: hash_bytes(data) for path, data in files.items()})
    for path, data in (files | {"manifest.json": release.to_json()}).items():
        store.write(f"{release.folder}/{path}", data)
    add_event(store, problem.name, lambda number, _: Event(number, "promote", 1, None, "", "bench", "", ""))
    asked, given = (json.loads(part.to_json(orient="records")) for part in (now[features], answers))
    log = Path(settings.prediction_log)
    PredictionLog(log).append([
        Prediction(f"p{i}", f"r{i}", day.to_pydatetime().replace(tzinfo=dt.UTC), problem.name, 1, row, answer, 0.003)
        for i, (day, row, answer) in enumerate(zip(now["date"], asked, given, strict=True))])
    OutcomeLog(log).append(problem.name, [Told(f"p{i}", "", 0, "true" if late else "false")
                                          for i, late in enumerate(now[problem.target])])


