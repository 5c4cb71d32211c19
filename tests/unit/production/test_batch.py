import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import filelock
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from cd4ml.base.errors import DataError, ReleaseError, StoreError
from cd4ml.base.fingerprint import hash_bytes
from cd4ml.base.settings import load_settings
from cd4ml.base.store import Store
from cd4ml.delivery.export import export_model
from cd4ml.delivery.history import Event, add_event
from cd4ml.delivery.manifest import Release
from cd4ml.model.problem import find_problem
from cd4ml.model.training import dump_model, predict_rows
from cd4ml.production.batch import BatchJob, load_scorer, score_table
from cd4ml.production.requests import list_features
from cd4ml.production.scorer import Scorer

ROOT = Path(__file__).resolve().parents[3]
IRIS = find_problem("iris")
FEATURES = tuple((name, "float64") for name in IRIS.features)


def make_rows(count: int) -> pd.DataFrame:
    return pd.DataFrame(np.random.default_rng(1).uniform(0.2, 7, (count, 4)), columns=list(IRIS.features))


@pytest.fixture(scope="module")
def model() -> LogisticRegression:
    X = make_rows(200)
    return LogisticRegression(max_iter=1000).fit(X, np.array(["setosa", "versicolor", "virginica"] * 67)[:200])


@pytest.fixture
def scorer(model: LogisticRegression) -> Scorer:
    return Scorer(model, list_features(FEATURES, "The model"), "multiclass", 1)


def write_release(folder: Path, model: LogisticRegression, version: int, more: dict[str, bytes] | None = None) -> None:
    store, files = Store(str(folder / "releases")), {"model/model.skops": dump_model(model), **(more or {})}
    release = Release("iris", version, "2026-01-02T03:04:05+00:00", "multiclass", "species", FEATURES,
                      tuple(model.classes_), {"decision": {"status": "pass"}, "metrics": {}}, {}, None,
                      {path: hash_bytes(data) for path, data in files.items()})
    for path, data in {**files, "manifest.json": release.to_json()}.items():
        store.write(f"{release.folder}/{path}", data)
    add_event(store, "iris", lambda number, champion: Event(number, "promote", version, champion, "", "ada", "", "ci"))


@pytest.mark.parametrize("source", ["in.parquet", "in.csv"])
@pytest.mark.parametrize("target", ["out.parquet", "out.csv"])
@pytest.mark.parametrize("chunk_rows", [1, 33, 100, 1000])
def test_answers_are_those_of_the_notebook(
        tmp_path: Path, scorer: Scorer, source: str, target: str, chunk_rows: int) -> None:
    X = make_rows(100)
    X.to_parquet(tmp_path / source) if source.endswith("parquet") else X.to_csv(tmp_path / source, index=False)
    done = score_table(scorer, BatchJob(tmp_path / source, tmp_path / target, chunk_rows))
    assert (done.answered, done.set_aside, done.resumed, done.aside) == (100, 0, 0, "")
    found = pd.read_parquet(tmp_path / target) if target.endswith("parquet") else pd.read_csv(tmp_path / target)
    expected = predict_rows(scorer.model, X, "multiclass")
    assert found["row"].tolist() == list(range(100))
    assert set(found["release"]) == {1}
    pd.testing.assert_frame_equal(found[list(expected)], expected, rtol=0, atol=1e-15)  # BLAS adds in another order


def test_the_same_job_goes_on_and_any_other_starts_anew(tmp_path: Path, scorer: Scorer) -> None:
    X = make_rows(100)
    X.to_parquet(tmp_path / "in.parquet")
    job = BatchJob(tmp_path / "in.parquet", tmp_path / "out.parquet", 10)

    def stop(done: int, rows: int | None) -> None:
        if done == 50:
            raise KeyboardInterrupt

    def interrupt() -> None:
        with pytest.raises(KeyboardInterrupt):
            score_table(scorer, job, stop)
        assert not job.target.exists()

    others = [(replace(scorer, release=2), job), (replace(scorer, identity="x"), job),
              (replace(scorer, contract=IRIS.contracts()["rows"]), job), (scorer, replace(job, chunk_rows=20))]
    for other, changed in others:
        interrupt()
        assert score_table(other, changed).resumed == 0
        assert set(pd.read_parquet(job.target)["release"]) == {other.release}
        job.target.unlink()
    interrupt()
    os.utime(job.source)
    assert score_table(scorer, job).resumed == 0
    job.target.unlink()
    interrupt()
    assert score_table(scorer, job).resumed == 50
    assert pd.read_parquet(job.target)["row"].tolist() == list(range(100))


def test_rows_set_aside_are_beside_and_gone_when_the_data_are_mended(tmp_path: Path, scorer: Scorer) -> None:
    X = make_rows(100)
    wrong = X.astype(object)
    wrong.iloc[[5, 50], 0] = ["wide", "inf"]
    job = BatchJob(tmp_path / "in.csv", tmp_path / "out.parquet", 10)
    wrong.to_csv(job.source, index=False)
    done = score_table(scorer, job)
    assert (done.answered, done.set_aside, done.aside) == (98, 2, str(job.aside))
    aside = pd.read_csv(job.aside)
    assert aside["row"].tolist() == [5, 50]
    assert json.loads(aside["values"][0])[IRIS.features[0]] == "wide"
    assert sorted(pd.read_parquet(job.target)["row"]) == [i for i in range(100) if i not in (5, 50)]
    X.to_csv(job.source, index=False)
    assert score_table(scorer, job).set_aside == 0
    assert not job.aside.exists()


def test_two_processes_do_not_write_the_same_file(tmp_path: Path, scorer: Scorer) -> None:
    make_rows(10).to_parquet(tmp_path / "in.parquet")
    job = BatchJob(tmp_path / "in.parquet", tmp_path / "out.parquet")
    job.folder.mkdir()
    with filelock.FileLock(job.folder / "lock"):
        with pytest.raises(StoreError, match="another process"):
            score_table(scorer, job)
    assert score_table(scorer, job).answered == 10


def test_an_empty_table_gets_an_empty_answer(tmp_path: Path, scorer: Scorer) -> None:
    make_rows(10)[:0].to_parquet(tmp_path / "in.parquet")
    assert score_table(scorer, BatchJob(tmp_path / "in.parquet", tmp_path / "out.parquet")).answered == 0
    assert list(pd.read_parquet(tmp_path / "out.parquet"))[:2] == ["row", "prediction"]


def test_a_table_that_changes_meanwhile_is_not_answered(tmp_path: Path, scorer: Scorer) -> None:
    job = BatchJob(tmp_path / "in.parquet", tmp_path / "out.parquet", 10)
    make_rows(100).to_parquet(job.source)
    with pytest.raises(DataError, match="changed while it was read"):
        score_table(scorer, job, lambda done, rows: os.utime(job.source, (done, done)))
    assert not job.target.exists()


def test_the_champion_answers_or_the_release_that_is_named(tmp_path: Path, model: LogisticRegression) -> None:
    settings = replace(load_settings(ROOT), release_store=str(tmp_path / "releases"))
    with pytest.raises(ReleaseError, match="no champion"):
        load_scorer(settings, IRIS)
    for version in (1, 2):
        write_release(tmp_path, model, version)
    assert load_scorer(settings, IRIS).release == 2
    assert load_scorer(settings, IRIS, 1).release == 1
    assert load_scorer(settings, IRIS, 1, is_strict=False).contract is None
    with pytest.raises(ReleaseError):
        load_scorer(settings, IRIS, 3)
    model_file = tmp_path / "releases/iris/1/model/model.skops"
    model_file.write_bytes(model_file.read_bytes()[:-9])
    with pytest.raises(ReleaseError, match="damaged"):
        load_scorer(settings, IRIS, 1)


@pytest.mark.parametrize(("difference", "is_quick"), [(0.0, True), (1e-13, True), (1e-10, False), (None, False)])
def test_the_onnx_form_answers_tables_if_its_answers_are_the_same(
        tmp_path: Path, model: LogisticRegression, difference: float | None, is_quick: bool) -> None:
    settings, X = replace(load_settings(ROOT), release_store=str(tmp_path / "releases")), make_rows(300)
    told = b"" if difference is None else json.dumps({"difference": difference}).encode()
    more = {"model/model.onnx": export_model(model, X, "multiclass")} | ({"model/onnx.json": told} if told else {})
    write_release(tmp_path, model, 1, more)
    scorer = load_scorer(settings, IRIS)
    assert (scorer.quick is not None) is is_quick
    X.to_parquet(tmp_path / "in.parquet")
    score_table(scorer, BatchJob(tmp_path / "in.parquet", tmp_path / "out.parquet", 70))
    expected = predict_rows(model, X, "multiclass")
    found = pd.read_parquet(tmp_path / "out.parquet")[list(expected)]
    pd.testing.assert_frame_equal(found, expected, rtol=0, atol=1e-6)


def call_score(folder: Path, *words: str) -> subprocess.CompletedProcess:
    environ = os.environ | {"CD4ML_RELEASE_STORE": str(folder / "releases"), "CD4ML_ROOT": str(ROOT)}
    command = [str(Path(sys.executable).parent / "cd4ml"), "score", "iris", *words]
    return subprocess.run(command, cwd=folder, env=environ, text=True, capture_output=True, check=False)


@pytest.mark.slow
def test_the_command_answers_a_table_and_says_what_it_set_aside(tmp_path: Path, model: LogisticRegression) -> None:
    write_release(tmp_path, model, 1)
    X = make_rows(1000).assign(plant=[f"p{i}" for i in range(1000)])
    X.iloc[7, 0] = 900.0  # the contract knows no such iris
    X.to_parquet(tmp_path / "in.parquet")
    done = call_score(tmp_path, "in.parquet", "out.parquet", "--keep", "plant", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["problem"], told["release"], told["answered"], told["set_aside"]) == ("iris", 1, 999, 1)
    assert "1,000 of 1,000 rows" in done.stderr
    out = pd.read_parquet(tmp_path / "out.parquet")
    assert out["plant"].tolist() == X["plant"].drop(7).tolist()
    assert "must lie between" in (tmp_path / "out.parquet.aside.csv").read_text()
    done = call_score(tmp_path, "in.parquet", "out.csv", "--no-contract")
    assert "1,000 rows answered by release 1 of iris" in done.stdout


@pytest.mark.slow
def test_the_command_ends_with_1_if_no_row_or_too_few_could_be_answered(
        tmp_path: Path, model: LogisticRegression) -> None:
    write_release(tmp_path, model, 1)
    X = make_rows(10)
    X.iloc[:2, 0] = 900.0
    X.to_parquet(tmp_path / "some.parquet")
    X[:2].to_parquet(tmp_path / "none.parquet")
    assert call_score(tmp_path, "some.parquet", "out.parquet", "--max-aside", "0.2").returncode == 0
    done = call_score(tmp_path, "some.parquet", "out.parquet", "--max-aside", "0.1", "--json")
    assert (done.returncode, json.loads(done.stdout)["set_aside"]) == (1, 2)
    assert "Too many rows are set aside" in done.stderr
    done = call_score(tmp_path, "none.parquet", "none.out.parquet")
    assert done.returncode == 1
    assert "No row could be answered" in done.stderr


def test_a_line_that_is_no_row_is_set_aside_as_it_stands(tmp_path: Path, scorer: Scorer) -> None:
    job = BatchJob(tmp_path / "in.csv", tmp_path / "out.csv", 10)
    make_rows(3).to_csv(job.source, index=False)
    with open(job.source, "a") as file:
        file.write('1,"a, ""b"""\n')
    assert score_table(scorer, job).set_aside == 1
    assert pd.read_csv(job.aside)["values"].tolist() == ['1,"a, ""b"""']


@pytest.mark.slow
def test_the_command_refuses_a_wrong_table_before_it_writes(tmp_path: Path, model: LogisticRegression) -> None:
    write_release(tmp_path, model, 1)
    make_rows(10).rename(columns={IRIS.features[0]: "width"}).astype({IRIS.features[1]: str}).to_parquet(
        tmp_path / "in.parquet")
    done = call_score(tmp_path, "in.parquet", "out.parquet")
    assert done.returncode == 2
    assert f"'{IRIS.features[0]}' is missing" in done.stderr
    assert f"'{IRIS.features[1]}' is " in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.parquet", "releases"]
