import gzip
import json
from pathlib import Path

import pytest

SAMPLE = Path(__file__).parents[2] / "data" / "releases" / "iris-1.zip.gz"


@pytest.fixture
def packed(tmp_path_factory):
    path = tmp_path_factory.mktemp("archive") / "iris.zip"
    path.write_bytes(gzip.decompress(SAMPLE.read_bytes()))
    return path


@pytest.mark.slow
def test_an_archive_from_elsewhere_is_unpacked_promoted_and_verified(workbench, packed):
    answer = workbench.call_json("unpack", str(packed))
    assert (answer["version"], answer["is_new"], answer["promoted"]) == (1, True, False)
    assert workbench.call_json("releases", "iris")["champion"] is None
    assert "why" in workbench.call_json("unpack", str(packed), "--promote", code=2)["expected"]
    answer = workbench.call_json("unpack", str(packed), "--promote", "--why", "approved")
    assert (answer["is_new"], answer["promoted"]) == (False, True)
    assert workbench.call_json("releases", "iris")["champion"] == 1
    event = json.loads((workbench.folder / "releases/iris/history/000001.json").read_text())
    assert (event["action"], event["why"], event["who"]) == ("promote", "approved", "ada")
    (workbench.folder / "again.zip").unlink(missing_ok=True)
    again = workbench.call_json("release", "iris", "--version", "1", "--archive", "again.zip")
    assert (workbench.folder / "again.zip").read_bytes() == packed.read_bytes()
    assert again["archive"] == "again.zip"

    assert workbench.call_json("verify", "iris")["is_whole"]
    path = workbench.folder / "releases/iris/1/params.json"
    path.write_bytes(path.read_bytes().replace(b"1", b"2", 1))
    code, out, _ = workbench.call("verify", "iris", "1")
    assert code == 2
    assert "params.json: it was altered" in out
    assert list(workbench.call_json("verify", "iris", code=2)["releases"][0]["faults"]) == ["params.json"]
    assert "damaged" in workbench.call_json("release", "iris", "--version", "1", "--archive", "x.zip", code=2)["what"]
    assert not (workbench.folder / "x.zip").exists()
    workbench.call_json("unpack", str(packed))  # mends it
    assert workbench.call_json("verify", "iris")["is_whole"]


def test_signing_wants_a_key_and_a_release(workbench, packed):
    workbench.call_json("unpack", str(packed))
    assert "nothing to sign with" in workbench.call_json("verify", "iris", "1", "--sign", code=2)["what"]
    workbench.environ["CD4ML_SIGNING_KEY"] = "a key of its own, and long enough"
    assert "wrong key" in workbench.call("verify", "iris", "1")[1]
    assert "not said" in workbench.call_json("verify", "iris", "--sign", code=2)["what"]
    assert workbench.call_json("verify", "iris", "1", "--sign")["releases"][0]["signature"] == "valid"


def test_the_schema_is_printed_without_a_workbench(workbench):
    code, out, _ = workbench.call("verify", "--schema")
    assert code == 0
    assert json.loads(out)["properties"]["format"] == {"const": 1}


@pytest.mark.parametrize("words", [("verify",), ("verify", "irs"), ("verify", "iris", "7"), ("unpack", "nothing.zip"),
                                   ("unpack", "settings.ini"), ("release", "iris", "--version", "1")])
def test_what_cannot_be_done_is_explained(workbench, words):
    code, _, err = workbench.call(*words)
    assert code == 2
    assert err.startswith("error: ")
    assert "Traceback" not in err


@pytest.mark.slow
def test_a_finished_release_is_promoted_by_its_number(workbench, packed):
    workbench.call_json("unpack", str(packed))
    said = workbench.call_json("release", "iris", "--version", "1", code=2)
    assert "--promote" in said["expected"]
    for words in (["--params", "wider"], ["-p", "train.max_iter=3"], ["--force"]):
        said = workbench.call_json("release", "iris", "--version", "1", "--promote", *words, code=2)
        assert said["what"] == "A release that is there is taken as it was made"
    code, out, _ = workbench.call("release", "iris", "--version", "1", "--promote", "--why", "see [/docs/why]")
    assert code == 0
    assert out.startswith("promoted:  release 1 is the champion: see [/docs/why]")
    again = workbench.call_json("release", "iris", "--version", "1", "--promote")
    assert (again["promoted"], again["moved"], again["event"]) == (True, False, None)
    assert workbench.call_json("releases", "iris")["champion"] == 1
