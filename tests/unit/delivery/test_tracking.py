"""A new tracking database under four first users at once, and MLflow addresses that do not work."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from cd4ml.base.errors import StoreError
from cd4ml.base.settings import load_settings
from cd4ml.delivery.tracking import Mirrored, close_tracker, connect_mlflow, mirror_releases, open_tracker

FIRST_USER = """
import sys
from dataclasses import replace
from pathlib import Path
from cd4ml.base.settings import load_settings
from cd4ml.delivery.tracking import close_tracker, open_tracker
place = sys.argv[2]
uri = f"sqlite:///{place}/mlflow.db"
settings = replace(load_settings(Path(sys.argv[1]), environ={}), run_store=place, tracking_uri=uri, registry_uri=uri)
print("ready", flush=True)
sys.stdin.readline()
tracker = open_tracker(settings, "shop", sys.argv[3], {"who": sys.argv[3]})
close_tracker(tracker, "FINISHED", {"auc": {"value": 0.7, "low": 0.6, "high": None}}, {})
"""


@pytest.fixture
def settings(root, tmp_path):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    return replace(load_settings(root, environ={}), run_store=str(tmp_path), tracking_uri=uri, registry_uri=uri)


@pytest.mark.slow
def test_four_that_open_a_new_database_at_once_all_succeed(root, tmp_path, settings):
    users = [subprocess.Popen([sys.executable, "-c", FIRST_USER, str(root), str(tmp_path), f"user{i}"], text=True,
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for i in range(4)]
    for user in users:
        assert user.stdout.readline() == "ready\n"
    for user in users:
        user.stdin.write("go\n")
        user.stdin.flush()
    ends = [(user.communicate(timeout=300)[1], user.returncode) for user in users]
    assert [code for _, code in ends] == [0, 0, 0, 0], ends
    client = connect_mlflow(settings)
    runs = client.search_runs([client.get_experiment_by_name("shop").experiment_id])
    assert {run.data.tags["who"] for run in runs} == {"user0", "user1", "user2", "user3"}
    assert all(run.data.metrics == {"auc": 0.7, "auc_low": 0.6} for run in runs)


@pytest.mark.slow
def test_parameters_of_any_length_and_metrics_that_are_undefined_are_logged(settings):
    tracker = open_tracker(settings, "shop", "long", {})
    metrics = {"auc": {"value": None, "low": None, "high": None}, "nan": {"value": float("nan")}}
    close_tracker(tracker, "FINISHED", metrics, {"evaluate.rules": "x" * 20_000, "train.depth": None})
    run = tracker.client.get_run(tracker.run)
    assert len(run.data.params["evaluate.rules"]) == 6000
    assert run.data.params["train.depth"] == "None"
    assert run.data.metrics == {}


@pytest.fixture
def shop(settings):
    """Return MLflow's client, what the registry should say of three releases, and a function that mirrors it."""
    tracker = open_tracker(settings, "shop", "run", {})
    releases = {version: Mirrored(f"runs:/{tracker.run}/{version}", tracker.run, {"decision": "pass"})
                for version in (1, 3)} | {2: Mirrored("", tracker.run)}
    return tracker.client, lambda champion: mirror_releases(settings, "shop", lambda: (releases, champion))


@pytest.mark.slow
def test_the_registry_gets_what_it_lacks_once_and_the_alias_follows(shop):
    client, mirror = shop
    assert mirror(3) == ["release 1 was missing", "release 3 was missing", "the alias champion did not name release 3"]
    assert mirror(3) == []
    assert mirror(1) == ["the alias champion did not name release 1"]
    assert client.get_model_version_by_alias("shop", "champion").tags == {"release": "1", "decision": "pass"}
    assert mirror(2) == ["the alias champion named a release that does not serve"], "2 has no model in MLflow"
    assert client.get_registered_model("shop").aliases == {}, "no model is better than another one"
    assert mirror(2) == mirror(None) == []


@pytest.mark.slow
def test_a_release_from_another_machine_whose_model_is_not_here_keeps_no_other_from_the_registry(settings, shop):
    client, _ = shop
    run = client.search_runs([client.get_experiment_by_name("shop").experiment_id])[0].info.run_id
    releases = {1: Mirrored(f"models:/m-{'0' * 32}", "0" * 32), 2: Mirrored(f"runs:/{run}/2", run)}
    done = mirror_releases(settings, "shop", lambda: (releases, 2))
    assert done == ["release 1: MLflow does not have its model", "release 2 was missing",
                    "the alias champion did not name release 2"]
    assert client.get_model_version_by_alias("shop", "champion").tags["release"] == "2"


@pytest.mark.slow
def test_a_registry_that_somebody_changed_is_mended(shop):
    client, mirror = shop
    mirror(3)
    client.delete_model_version("shop", "1")
    client.set_registered_model_alias("shop", "champion", "2")
    client.set_model_version_tag("shop", "2", "decision", "fail")
    assert mirror(3) == ["release 1 was missing", "release 3 lacked its tags decision"]
    client.delete_model_version_tag("shop", "2", "release")
    client.delete_registered_model_alias("shop", "champion")
    assert mirror(3) == ["release 3 lacked its tags release", "the alias champion did not name release 3"]
    assert [one.tags["release"] for one in client.search_model_versions("name = 'shop'")] in (["1", "3"], ["3", "1"])
    client.delete_registered_model("shop")
    assert len(mirror(1)) == 3


@pytest.mark.slow
def test_a_registry_that_is_down_is_named_and_not_waited_for(settings):
    broken = replace(settings, registry_uri="http://ada:secret@127.0.0.1:9")
    with pytest.raises(StoreError, match=r"MLflow cannot be used \(http://•••@127\.0\.0\.1:9\)") as caught:
        mirror_releases(broken, "shop", lambda: ({1: Mirrored("runs:/1/model", "1")}, 1))
    assert "secret" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("uri", ["nosuch://place", "sqlite:////proc/nowhere/mlflow.db"])
def test_an_address_that_does_not_work_is_named_without_its_password(settings, uri):
    broken = replace(settings, tracking_uri=uri.replace("://", "://ada:secret@", 1) if "nosuch" in uri else uri)
    with pytest.raises(StoreError, match="MLflow cannot be used") as caught:
        connect_mlflow(broken)
    assert "secret" not in str(caught.value)


def test_a_database_that_nobody_can_write_is_told_without_asking_mlflow_which_tries_for_long(settings, monkeypatch):
    import mlflow

    def refuse(*_):
        raise AssertionError("MLflow was asked")

    monkeypatch.setattr(mlflow, "MlflowClient", refuse)
    Path(settings.tracking_uri.removeprefix("sqlite:///")).mkdir(parents=True)  # a folder is no file, for root neither
    with pytest.raises(StoreError, match="MLflow cannot be used"):
        connect_mlflow(settings)
