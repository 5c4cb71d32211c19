"""Start a command in a fork of this warm process, kill it at a random moment, and look at what it left.

    python tests/faults/killing.py WORKBENCH ACTION KILLS SEED

prints one JSON object: how many were killed in time, and every fault that was found.
"""

import contextlib
import datetime as dt
import importlib
import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from dataclasses import replace
from functools import partial
from pathlib import Path

from cd4ml.base.settings import load_settings
from cd4ml.base.store import Store
from cd4ml.delivery import promotion, release, retention, site, tracking  # noqa: F401  imported before the fork
from cd4ml.delivery.history import find_champion, read_history
from cd4ml.delivery.promotion import Wish
from cd4ml.delivery.record import list_runs, read_run
from cd4ml.delivery.release import Bundle, list_releases, read_release, verify_release
from cd4ml.delivery.retention import Removal, apply_prune, explain_stay, plan_prune
from cd4ml.delivery.steps import make_order
from cd4ml.model.problem import find_problem

NOW = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
NEW = ["train.C=0.5"]  # of the run that is known and not released yet
REMOVAL = Removal(NOW, "ada", "test")


class Bench:
    """A workbench with its state before each kill: releases 1 to 4, of which 1 serves, and a run without a release."""

    def __init__(self, root):
        self.settings = load_settings(root, environ={})
        self.home, self.saved = Path(self.settings.release_store), root / "saved"
        self.database = Path(self.settings.tracking_uri.removeprefix("sqlite:///"))
        self.site = Path(self.settings.site)

    @property
    def store(self):
        return Store(self.settings.release_store)

    def prepare(self):
        """Add releases of the same run to that which the command made, and keep all that as the state to return to."""
        runs = Path(self.settings.run_store) / "runs" / "iris"
        known = [read_run(runs, one) for one in list_runs(runs)]
        lock, problem = self.settings.root / "requirements.lock", find_problem("iris", "cd4ml")
        old, new = known[0], known[-1]
        for run in (old, old, new):
            release.write_bundle(self.store, Bundle(run, problem, 1, lock, NOW))
        promotion.mirror_registry(self.settings, "iris")
        self.saved.mkdir()
        shutil.copytree(self.home, self.saved / "releases")
        shutil.copy(self.database, self.saved / "mlflow.db")

    def restore(self, action):
        """Bring back the state before `action`."""
        for path in (self.home, self.site):
            shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(self.saved / "releases", self.home)
        if action == "release":  # the run of release 4 shall be released anew
            shutil.rmtree(self.home / "iris" / "4")
        for path in self.database.parent.glob("mlflow.db*"):
            path.unlink()
        shutil.copy(self.saved / "mlflow.db", self.database)

    def act(self, action):
        """Do what the command of the name `action` does."""
        if action in ("release", "promote"):
            order = replace(make_order(self.settings, "iris", "default", NEW), report_progress=lambda *_: None)
            promotion.release_problem(order, Wish(NOW, promote=True, why="test"))
        elif action == "rollback":
            promotion.roll_back(self.settings, "iris", 2, Wish(NOW, why="test"))
        elif action == "prune":
            store = self.store
            found = list_releases(store, "iris")
            stays = explain_stay(found, read_history(store, "iris"), {}, 1)
            apply_prune(store, plan_prune(store, "iris", {one.version for one in found}, stays, NOW), REMOVAL)
        elif action == "site":
            site.build_site(self.settings)

    def look(self, action, is_done):
        """Raise `AssertionError` if the stores are not as they may be after `action`, which was killed or is done."""
        store, whole = self.store, list_releases(self.store, "iris")
        for one in whole:
            verify_release(store, one)
        versions = [one.version for one in whole]
        events = read_history(store, "iris")
        assert [event.number for event in events] == list(range(1, len(events) + 1)), events
        champion = find_champion(store, "iris")
        target = {"release": versions[-1], "promote": 4, "rollback": 2}.get(action, 1)
        assert champion in ((target,) if is_done else (1, target)), f"champion {champion} of {versions}"
        verify_release(store, read_release(store, "iris", champion))
        assert not {1, 4 if action in ("promote", "rollback", "site") else 1} - set(versions), versions
        if action == "prune":
            assert {1, 4} <= set(versions) <= {1, 2, 3, 4}, versions
            if is_done:
                assert versions == [1, 4], versions
                assert all(retention.read_tombstone(store, "iris", one) for one in (2, 3))
                assert not [path for path in store.list("iris/2") if path.rpartition("/")[2] not in
                            retention.KEPT_FILES]
        for page in self.site.rglob("*.html"):
            assert page.read_text().rstrip().endswith("</html>"), f"half a page: {page.name}"
        assert not (is_done and action == "site") or (self.site / "index.html").is_file()


WRITES = ("fsync", "replace", "link", "unlink", "rmdir", "rename")  # of the os module: where a file becomes another one


def count_writes(stop_at=None):
    """Count the calls that change a folder from now on; kill this process just before call number `stop_at`."""
    done = []

    def wrap(call):
        def watched(*words, **options):
            done.append(call)
            if len(done) == stop_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*words, **options)
        return watched

    for name in WRITES:
        setattr(os, name, wrap(getattr(os, name)))
    return done


def fork(work, seconds=None):
    """Run `work` in a fork, killed after `seconds`; return the exit code, or none if it was killed."""
    child = os.fork()
    if child == 0:
        code = 3
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        os._exit(code)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return None if os.WIFSIGNALED(status) else os.waitstatus_to_exitcode(status)


def warm_up(bench, action):
    """Import here whatever `action` imports in a fork, so that later forks do not; return how often it writes."""
    note = bench.settings.root / "modules.json"

    def act():
        done = count_writes()
        bench.act(action)
        note.write_text(json.dumps([len(done), list(sys.modules)]))

    bench.restore(action)
    assert fork(act) == 0
    writes, names = json.loads(note.read_text())
    for name in names:
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    return writes


def measure(bench, action):
    """Return how long `action` takes in a fork [s]."""
    bench.restore(action)
    began = time.monotonic()
    assert fork(lambda: bench.act(action)) == 0, f"{action} fails without being killed"
    took = time.monotonic() - began
    bench.look(action, True)
    return took


def main():
    root, action, kills, seed = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    bench, dice, faults, killed, tries = Bench(root), random.Random(seed), [], 0, 0
    if not bench.saved.exists():
        assert fork(bench.prepare) == 0
    writes = warm_up(bench, action)
    took = min(measure(bench, action) for _ in range(3))
    while killed < kills and tries < 3 * kills:
        bench.restore(action)
        tries += 1
        if dice.random() < 0.5:
            delay = dice.uniform(0, took)
            words = f"{action} {tries}, killed after {delay:.4f} of {took:.4f} s"
            killed += fork(partial(bench.act, action), delay) is None
        else:
            write = dice.randint(1, writes)
            words = f"{action} {tries}, killed before write {write} of {writes}"
            killed += fork(partial(kill_at_write, bench, action, write)) is None
        try:
            bench.look(action, False)
            assert fork(partial(bench.act, action)) == 0, "the next command fails"
            bench.look(action, True)
        except Exception as error:
            faults.append(f"{words}: {error!r}")
    print(json.dumps({"action": action, "seconds": took, "writes": writes, "tries": tries, "killed": killed,
                      "faults": faults}))


def kill_at_write(bench, action, write):
    count_writes(write)
    bench.act(action)


if __name__ == "__main__":
    main()
