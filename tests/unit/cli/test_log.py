"""`cd4ml predictions` and `cd4ml feedback`: what they show, for people and for machines, and how they end."""

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from cd4ml.base.store import Store
from cd4ml.cli.main import main
from cd4ml.delivery.history import Event, add_event
from cd4ml.delivery.manifest import Release
from cd4ml.production.predictions import Prediction, PredictionLog

ROOT = Path(__file__).parents[3]
AT = dt.datetime(2013, 7, 1, 12, tzinfo=dt.UTC)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, value in (("ROOT", ROOT), ("RELEASE_STORE", tmp_path / "releases"), ("PREDICTION_LOG", tmp_path / "log")):
        monkeypatch.setenv(f"CD4ML_{name}", str(value))
    store = Store(str(tmp_path / "releases"))
    release = Release("iris", 1, "", "multiclass", "species", (("x", "float64"),), ("a", "b"), {"decision": {}},
                      {}, None, {})
    store.write("iris/1/manifest.json", release.to_json())
    add_event(store, "iris", lambda number, _: Event(number, "promote", 1, None, "", "ada", "", "ci"))
    PredictionLog(tmp_path / "log").append([
        Prediction(f"p{i}", "r", AT + i * dt.timedelta(hours=8), "iris", 1 + i % 2, {"x": i, "name": f"[b]{i}"},
                   {"prediction": "a", "probability": 0.5}, 0.01, f"k{i}") for i in range(6)])
    return tmp_path


def ask(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main([*words])
    told = capsys.readouterr()
    return int(end.value.code or 0), told.out, told.err


def find_ids(capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    code, out, _ = ask(capsys, "predictions", "iris", "--json", *words)
    assert code == 0
    return [one["prediction_id"] for one in json.loads(out)["predictions"]]


@pytest.mark.parametrize(("words", "expected"), [
    ([], "543210"), (["--limit", "2"], "54"), (["--limit", "0", "--release", "2"], "531"), (["--key", "k3"], "3"),
    (["--id", "p4"], "4"), (["--id", "nothing"], ""), (["--since", "2013-07-02"], "5432"),
    (["--until", "2013-07-02"], "10"), (["--since", "2013-07-02T04:00", "--until", "2013-07-02T20:00"], "32"),
    (["--where", "x>=2", "--where", "x!=4"], "532"),
    (["--where", "name=[b]3"], "3"), (["--role", "shadow"], ""), (["--since", "5m"], ""),
    (["--where", "probability>0.5"], ""), (["--where", "prediction=a", "--limit", "1"], "5"),
    (["--where", "at>2013-07-02", "--where", "at<=2013-07-02T12:00+00:00"], "32"), (["--where", "key=k2"], "2"),
    (["--where", "name=null"], ""), (["--where", "x!=null", "--where", "x<1"], "0")])
def test_what_is_asked_for_is_found_the_newest_first(
        folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], expected: str) -> None:
    assert find_ids(capsys, *words) == [f"p{one}" for one in expected]


def test_people_see_a_table_with_the_outcome(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "told.csv").write_text("key,outcome\nk5,b\n")
    assert ask(capsys, "feedback", "iris", str(folder / "told.csv"))[1] == "1 outcomes of iris kept\n"
    code, out, _ = ask(capsys, "predictions", "iris", "--limit", "1")
    assert code == 0
    assert [word for word in out.split() if word in ("p5", "b", "k5", "name=[b]5", "prediction=a")] == [
        "p5", "prediction=a", "b", "k5", "name=[b]5"]


def test_counts_and_what_is_missing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    counts = json.loads(ask(capsys, "predictions", "iris", "--by", "day", "--json")[1])["counts"]
    assert [tuple(one.values()) for one in counts] == [
        ("2013-07-01", 1, 1), ("2013-07-01", 2, 1), ("2013-07-02", 1, 2), ("2013-07-02", 2, 1), ("2013-07-03", 2, 1)]
    by_release = ["predictions", "iris", "--by", "release", "--json"]
    for more, expected in (([], [3, 3]), (["--where", "x>1"], [2, 2]), (["--since", "2013-07-02T10:00"], [1, 2]),
                           (["--key", "k1"], [1]), (["--release", "2"], [3])):
        counts = json.loads(ask(capsys, *by_release, *more)[1])["counts"]
        assert [one["count"] for one in counts] == expected, more
    (folder / "told.csv").write_text("prediction_id,key,outcome\np0,,a\n,k1,a\n,k99,b\n")
    ask(capsys, "feedback", "iris", str(folder / "told.csv"))
    told = json.loads(ask(capsys, "predictions", "iris", "--missing", "--json")[1])
    assert (told["predictions"], told["told"], told["early_keys"], told["ages"]["more than a year"]) == (6, 2, 1, 4)
    assert "2 of 6 predictions" in ask(capsys, "predictions", "iris", "--missing")[1]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_rows_are_written_as_a_table(folder: Path, capsys: pytest.CaptureFixture[str], suffix: str) -> None:
    out = folder / f"rows{suffix}"
    assert ask(capsys, "predictions", "iris", "--where", "x>3", "--out", str(out))[0] == 0
    df = pd.read_csv(out) if suffix == ".csv" else pd.read_parquet(out)
    assert list(df["prediction_id"]) == ["p4", "p5"]
    assert {"prediction", "probability", "x", "name", "outcome", "at", "release"} <= set(df.columns)
    assert ask(capsys, "predictions", "iris", "--until", "2000-01-01", "--out", str(out))[0] == 0


def log_features(folder: Path, *rows: dict[str, Any]) -> None:
    """Log each of `rows` as the answer of a release of its own."""
    PredictionLog(folder / "log").append([
        Prediction(f"q{i}", "r", AT + dt.timedelta(days=9), "iris", 3 + i, row, {"prediction": "a"}, 0.01)
        for i, row in enumerate(rows)])


def test_a_value_is_compared_as_what_each_release_was_asked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log_features(folder, {"line": 1, "late": True}, {"line": "1", "late": False}, {"line": "A", "late": None})
    for where, expected in (("line=1", "10"), ("line=A", "2"), ("late=true", "0"), ("late=False", "1"),
                            ("late=null", "2543210")):
        assert "".join(one[1] for one in find_ids(capsys, "--where", where)) == expected, where
    assert ask(capsys, "predictions", "iris", "--where", "late=yes")[0] == 2


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_every_feature_has_its_place_in_a_table(folder: Path, capsys: pytest.CaptureFixture[str], suffix: str) -> None:
    log_features(folder, {"x": 10**30, "line": 1, "huge": 10**400, "outcome": 7}, {"x": 1.5, "line": "A", "huge": 1})
    out = folder / f"rows{suffix}"
    (folder / "told.csv").write_text("prediction_id,outcome\np5,b\n")
    assert ask(capsys, "feedback", "iris", str(folder / "told.csv"))[0] == 0
    assert ask(capsys, "predictions", "iris", "--since", "2013-07-03", "--out", str(out))[0] == 0
    df = (pd.read_csv(out) if suffix == ".csv" else pd.read_parquet(out)).set_index("prediction_id")
    assert [*df.loc[["p5", "q0", "q1"], "x"]] == [5, 1e30, 1.5]
    assert [*df.loc[["q0", "q1"], "line"].astype(str)] == ["1", "A"]
    assert str(df.loc["q0", "huge"]).startswith("1000")
    assert (df.loc["q0", "feature_outcome"], df.loc["p5", "outcome"]) == (7, "b")


def test_what_no_table_can_hold_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log_features(folder, {"name": "\ud800"})
    for name in ("rows.csv", "rows.parquet"):
        code, _, err = ask(capsys, "predictions", "iris", "--out", str(folder / name))
        assert (code, "fit into no table" in err) == (2, True)


@pytest.mark.parametrize(("words", "said"), [
    (["--where", "x is 3"], "no condition"), (["--where", "y>3"], "has no 'y'"), (["--since", "soon"], "no time"),
    (["--out", "rows.txt"], "end of a name"), (["--where", "y=1"], "has no 'y'"), (["--where", "outcome=a"], "no 'out"),
    (["--where", "z!=1", "--by", "day"], "has no 'z'"), (["--where", "z!=1", "--out", "rows.csv"], "has no 'z'"),
    (["--where", "x>abc"], "'x' is never"), (["--where", "x=true"], "'x' is never"),
    (["--where", "x!=NaN"], "'x' is never"),
    (["--where", "at>soon"], "no time"), (["--where", "x>=2 and x<4"], "more than one condition"),
    (["--where", "name=a and x<4"], "more than one condition"), (["--by", "day", "--out", "rows.csv"], "--by counts"),
    (["--by", "day", "--limit", "3"], "--by counts"), (["--missing", "--by", "day"], "--missing counts all"),
    (["--missing", "--since", "7d"], "--missing counts all")])
def test_mistakes_end_with_2_and_say_what_is_meant(
        folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str) -> None:
    code, _, err = ask(capsys, "predictions", "iris", *words)
    assert code == 2
    assert said in err
    code, out, _ = ask(capsys, "predictions", "iris", "--json", *words)
    assert said in json.loads(out)["what"]


def test_bad_rows_of_a_table_are_set_aside_and_others_kept(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = pd.DataFrame({"prediction_id": ["p0", "p1", "p9", None], "outcome": ["a", "c", "a", "a"],
                         "at": pd.to_datetime(["2013-07-05"] * 4, utc=True)})
    rows.to_parquet(folder / "told.parquet")
    for _ in range(2):  # the same again changes nothing
        told = json.loads(ask(capsys, "feedback", "iris", str(folder / "told.parquet"), "--json")[1])
        assert (told["kept"], told["set_aside"]) == (1, 3)
    aside = pd.read_csv(folder / "told.parquet.aside.csv")
    assert list(aside["row"]) == [1, 2, 3]
    assert aside["reason"].str.contains("outcome|unknown|object").all()
    rows.head(1).to_parquet(folder / "told.parquet")
    ask(capsys, "feedback", "iris", str(folder / "told.parquet"))
    assert not (folder / "told.parquet.aside.csv").exists()
    assert ask(capsys, "feedback", "iris", str(folder / "none.csv"))[0] == 2


def test_a_table_of_which_nothing_is_kept_ends_with_1(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for rows, expected in (("p0,c\np9,a\n", 1), ("p0,c\np1,a\n", 0), ("", 0)):
        (folder / "told.csv").write_text(f"prediction_id,outcome\n{rows}")
        code, out, _ = ask(capsys, "feedback", "iris", str(folder / "told.csv"))
        assert (code, "kept" in out) == (expected, True)


def test_what_a_client_said_does_not_steer_the_terminal(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    PredictionLog(folder / "log").append([Prediction(
        "q0", "r", AT + dt.timedelta(days=9), "iris", 1, {"x": 1, "name": "\x1b[2J\u202e\ud800"}, {"prediction": "a"},
        0.01, "k\x07\rk")])
    code, out, _ = ask(capsys, "predictions", "iris", "--limit", "1")
    assert code == 0
    assert not set("\x1b\x07\r\u202e\ud800") & set(out)
    assert r"k\x07\rk" in out
    assert r"\x1b[2J\u202e\ud800" in out
