"""Back and again, as a user does it: in a clone with a package of its own, while the working tree went on."""

import json
import os
import re
import shutil
import signal
from pathlib import Path

import pytest
from waiting import wait_until

from cd4ml.base.fingerprint import hash_bytes
from cd4ml.base.store import Store
from cd4ml.delivery.git import run_git
from cd4ml.delivery.release import read_release
from cd4ml.delivery.reproduction import list_reproductions
from cd4ml.delivery.undo import PATCH

pytestmark = pytest.mark.slow
SIGNED = ("-c", "user.name=ada", "-c", "user.email=ada@example.org")


@pytest.fixture(scope="module")
def bench(shared_workbench, root):
    """Return a clone with its own package, a first release, and a second one; afterwards everything was changed."""
    folder = shared_workbench.folder
    shutil.copytree(root / "cd4ml", folder / "cd4ml", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / ".gitignore").write_text(".cd4ml/\nreleases/\n__pycache__/\n")
    problem = folder / "cd4ml" / "problems" / "iris.py"
    source = problem.read_text()
    assert "C=params.C," in source
    problem.write_text(source.replace("C=params.C,", "C=params.C * 0.93,"))
    shared_workbench.environ["PYTHONPATH"] = str(folder)
    run_git(folder, "init", "--quiet")
    run_git(folder, "add", ".")
    run_git(folder, *SIGNED, "commit", "--quiet", "-m", "first")
    assert shared_workbench.call_json("release", "iris")["promoted"]
    own = ("-p", "train.C=0.8", "-p", "evaluate.rules=[{metric: accuracy, margin: 0.2}]")
    assert shared_workbench.call_json("release", "iris", *own, "--promote", "--why", "wider")["version"] == 2
    problem.write_text(source.replace("C=params.C,", "C=params.C * 0.001,"))
    (folder / "params" / "iris" / "default.yaml").write_text("train:\n  C: 0.001\n")
    shared_workbench.edit_notebook("train", lambda notebook: notebook["cells"].clear())
    return shared_workbench


def list_statuses(found):
    return {check["subject"]: check["status"] for check in found["checks"]}


def check_tidy(bench):
    assert len(run_git(bench.folder, "worktree", "list").splitlines()) == 1
    assert list((bench.folder / ".cd4ml" / "reproductions").iterdir()) == []


def test_a_release_is_made_again_to_the_bit_though_everything_was_changed(bench):
    before = run_git(bench.folder, "status", "--porcelain")
    found = bench.call_json("reproduce", "iris", "2")
    assert found["is_reproduced"], found
    assert found["summary"] == "release 2 was reproduced to the bit"
    statuses = list_statuses(found)
    assert set(statuses.values()) == {"equal"}
    assert {"snapshot train", "snapshot holdout", "parameters", "model", "predictions", "accuracy",
            "decision"} <= set(statuses)
    assert [name for name in statuses if "champion" in name], "it was judged beside release 1 again"
    kept = list_reproductions(Store(str(bench.folder / "releases")), "iris", 2)
    assert [(one.number, one.is_reproduced, one.who) for one in kept] == [(1, True, "ada")]
    assert run_git(bench.folder, "status", "--porcelain") == before
    assert len(bench.find_runs("iris")) == 2, "nothing of it is taken for a delivery"
    check_tidy(bench)
    assert bench.call_json("releases", "iris")["champion"] == 2


def alter_manifest(bench, version, files=None, **provenance):
    """Write release `version` anew as one of another commit, with further `files`."""
    store = Store(str(bench.folder / "releases"))
    plain = json.loads(store.read(f"iris/{version}/manifest.json"))
    release = read_release(store, "iris", version)
    release.run["provenance"].update(provenance)
    for path, data in (files or {}).items():
        store.write(f"iris/{version}/{path}", data)
        release.files[path] = hash_bytes(data)
    store.write(f"iris/{version}/manifest.json", release.to_json())
    return plain["run"]["provenance"]


def test_what_was_not_committed_is_part_of_the_code_and_what_differs_is_named(bench):
    folder = bench.folder
    commit = run_git(folder, "rev-parse", "HEAD")
    run_git(folder, "stash", "--quiet")
    path = folder / "cd4ml" / "problems" / "iris.py"
    path.write_text(path.read_text().replace("* 0.93", "* 0.2"))
    run_git(folder, *SIGNED, "commit", "--quiet", "-am", "second")
    other = run_git(folder, "rev-parse", "HEAD")
    patch = run_git(folder, "diff", other, commit, "--binary") + "\n"
    alter_manifest(bench, 1, commit=other)
    found = bench.call_json("reproduce", "iris", "1", code=1)
    statuses = list_statuses(found)
    assert (statuses["model"], statuses["predictions"], statuses["snapshot train"]) == ("differs", "differs", "equal")
    assert "model" in found["summary"]
    alter_manifest(bench, 1, {PATCH: patch.encode()}, commit=other, is_dirty=True)
    found = bench.call_json("reproduce", "iris", "1")
    assert found["has_patch"]
    assert set(list_statuses(found).values()) == {"equal"}
    kept = list_reproductions(Store(str(folder / "releases")), "iris", 1)
    assert [one.is_reproduced for one in kept] == [False, True]
    check_tidy(bench)


def test_a_rollback_with_code_moves_the_champion_and_makes_the_branch_or_neither(bench):
    folder = bench.folder
    before = [run_git(folder, *words) for words in (("status", "--porcelain"), ("rev-parse", "HEAD"))]
    told = bench.call_json("rollback", "iris", "--with-code", "--why", "as a rehearsal", "--wait")
    assert (told["champion"], told["moved"], told["mlflow"]) == (1, True, "followed")
    assert told["branch"]["name"] == "rollback/iris-1"
    assert "* 0.93" in run_git(folder, "show", "rollback/iris-1:cd4ml/problems/iris.py")
    assert [run_git(folder, *words) for words in (("status", "--porcelain"), ("rev-parse", "HEAD"))] == before
    code, _, err = bench.call("rollback", "iris", "1", "--with-code")
    assert code == 2
    assert "is there already" in err
    alter_manifest(bench, 2, commit="3" * 40)
    code, _, err = bench.call("rollback", "iris", "2", "--with-code")
    assert code == 2
    assert "git fetch" in err
    assert bench.call_json("releases", "iris")["champion"] == 1, "neither was done"
    code, out, err = bench.call("rollback", "iris", "2", "--why", "forward again")
    assert code == 0
    assert "release 2 of iris is the champion again (every file verified, moved in" in out
    assert "MLflow follows behind" in err


def test_the_history_and_what_served_when_are_told(bench):
    events = bench.call_json("releases", "iris", "--history")["events"]
    assert [(one["action"], one["from"], one["to"], one["decision"]) for one in events] == [
        ("promote", None, 1, "pass"), ("promote", 1, 2, "pass"), ("rollback", 2, 1, "pass"), ("rollback", 1, 2, "pass")]
    assert [one["why"] for one in events[2:]] == ["as a rehearsal", "forward again"]
    code, out, _ = bench.call("releases", "iris", "--history")
    assert code == 0
    assert all(word in out for word in ("2 → 1", "none → 1", "as a rehearsal", "ada", "local"))
    found = bench.call_json("releases", "iris", "--at", events[1]["at"])
    assert (found["version"], found["since"]["number"], found["until"]["number"]) == (2, 2, 3)
    assert bench.call_json("releases", "iris", "--at", "2020-01-01")["version"] is None
    assert "(UTC assumed)" in bench.call("releases", "iris", "--at", "2020-01-01")[1]
    assert bench.call_json("releases", "iris", "--at", "soon", code=2)["where"] == "--at"
    assert "do not go together" in bench.call("releases", "iris", "--at", "2020-01-01", "--history")[2]


def find_finding(bench):
    """Return what `cd4ml doctor` finds of iris; other problems may lack what this workbench does not need."""
    found = json.loads(bench.call("doctor", "--json")[1])["findings"]
    return next(one["finding"] for one in found if one["subject"] == "iris")


def test_a_registry_that_is_down_stops_nobody_and_doctor_mends_it(bench):
    bench.environ["CD4ML_REGISTRY_URI"] = "nosuch://place"
    outcome = bench.call_json("release", "iris", "--promote", "--why", "nobody waits for MLflow")
    assert outcome["promoted"]
    assert outcome["warning"].startswith("MLflow fell behind.")
    assert "cd4ml doctor" in outcome["warning"]
    assert bench.call_json("rollback", "iris", "2", "--wait")["mlflow"] == outcome["warning"]
    assert bench.call_json("release", "iris", "--promote", "--why", "again")["promoted"]
    told = bench.call_json("releases", "iris")
    assert (told["champion"], told["warning"]) == (outcome["version"], outcome["warning"])
    assert "warning: MLflow fell behind" in bench.call("releases", "iris")[1]
    del bench.environ["CD4ML_REGISTRY_URI"]
    found = find_finding(bench)
    assert f"release {outcome['version']} was missing" in found
    assert f"the alias champion did not name release {outcome['version']}" in found
    assert "mended" not in find_finding(bench)
    assert bench.call_json("releases", "iris")["warning"] == ""


def test_ctrl_c_ends_what_runs_and_leaves_nothing(bench):
    process = bench.start("reproduce", "iris", "1")
    for line in process.stderr:
        if "train" in line:
            break
    home = bench.folder / ".cd4ml" / "reproductions"
    place = next(path for path in home.iterdir())
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    check_tidy(bench)
    wait_until(lambda: not list_workers(place), "no process works there any more", 20)


def list_workers(place):
    running = [Path(f"/proc/{pid}/cwd") for pid in os.listdir("/proc") if pid.isdigit()]
    return [path for path in running if is_below(path, place)]


def is_below(path, place):
    try:
        return os.readlink(path).startswith(str(place))
    except OSError:
        return False


def test_data_that_is_gone_is_said_with_its_reason(bench):
    folder = bench.folder
    path = folder / "cd4ml" / "problems" / "iris.py"
    source = path.read_text()
    sha256 = re.search(r"[0-9a-f]{64}", source)[0]
    path.write_text(source.replace(sha256, "0" * 64))
    run_git(folder, *SIGNED, "commit", "--quiet", "-am", "third")
    alter_manifest(bench, 2, commit=run_git(folder, "rev-parse", "HEAD"))
    code, _, err = bench.call("reproduce", "iris", "2")
    assert code == 2
    assert "could not be made again" in err
    assert "is not the one that was recorded" in err
    alter_manifest(bench, 2, commit="")
    assert "names no commit" in bench.call("reproduce", "iris", "2")[2]
    check_tidy(bench)
