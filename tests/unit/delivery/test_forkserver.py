"""Processes forked from a parent that only imports: the ways in which forking is known to go wrong."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from waiting import wait_until

from cd4ml.delivery.forkserver import Fork, Forkserver, ForkUnsafe, Task

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks on Linux only")
JOBS = '''
import os, signal, sys, threading, time

def draw(given, send):
    import random, numpy
    send({"type": "drawn", "numpy": float(numpy.random.rand()), "python": random.random()})

def leave(given, send):
    os._exit(given["code"])

def die(given, send):
    os.kill(os.getpid(), given["signal"])

def raise_error(given, send):
    raise ValueError("on purpose")

def sleep(given, send):
    child = os.fork()
    if child == 0:
        time.sleep(60)
    try:
        send({"type": "sleeping", "pid": os.getpid(), "child": child})
        time.sleep(60)
    except KeyboardInterrupt:
        send({"type": "interrupted"})

def look(given, send):
    import threadpoolctl
    send({"type": "seen", "folder": os.getcwd(), "environ": dict(os.environ), "modules": list(sys.modules),
          "threads": threading.active_count(), "pools": threadpoolctl.threadpool_info()})

def fit(given, send):
    from sklearn.ensemble import HistGradientBoostingClassifier
    import numpy as np
    X = np.random.default_rng(0).normal(size=(5000, 4))
    HistGradientBoostingClassifier(max_iter=5).fit(X, X[:, 0] > 0)
    send({"type": "product", "value": float((X.T @ X)[0, 0])})

def grow(given, send):
    held = bytearray(given["bytes"])
    send({"type": "grown", "size": len(held)})

def leave_a_thread(given, send):
    threading.Thread(target=lambda: (time.sleep(0.3), send({"type": "late"}))).start()
'''


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forkserver]:
    folder = tmp_path_factory.mktemp("jobs")
    (folder / "cd4ml_jobs.py").write_text(JOBS)
    (folder / "cd4ml_threaded.py").write_text("import threading, time\n"
                                              "threading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n")
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(folder)
    made = Forkserver()
    made.warm_up(())
    time.sleep(0.2)
    yield made
    made.close()
    os.environ.pop("PYTHONPATH")
    if before is not None:
        os.environ["PYTHONPATH"] = before


@pytest.fixture
def run(server: Forkserver, tmp_path: Path) -> Callable[..., list[dict[str, Any]]]:
    def run(name: str, given: Mapping[str, Any] | None = None, **options: Any) -> list[dict[str, Any]]:
        task = Task(f"cd4ml_jobs:{name}", given or {}, str(tmp_path), dict(os.environ), **options)
        return read_all(server.fork(task))
    return run


def read_all(fork: Fork) -> list[dict[str, Any]]:
    messages = []
    while not messages or messages[-1]["type"] != "exit":
        messages.append(fork.read(30) or pytest.fail("the process hangs"))
    fork.close()
    return messages


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until_gone(*pids: int) -> None:
    wait_until(lambda: not any(map(is_alive, pids)), f"{pids} are gone", 10)


def test_each_process_draws_random_numbers_of_its_own(run: Callable[..., Any]) -> None:
    drawn = [run("draw", imports=("numpy", "random"))[0] for _ in range(3)]
    assert len({one["numpy"] for one in drawn}) == len({one["python"] for one in drawn}) == 3


@pytest.mark.parametrize(("name", "given", "code"), [
    ("leave", {"code": 3}, 3), ("die", {"signal": signal.SIGKILL}, -9), ("die", {"signal": signal.SIGSEGV}, -11),
    ("raise_error", {}, 1), ("draw", {}, 0)])
def test_the_exit_status_is_collected(run: Callable[..., Any], name: str, given: dict[str, int], code: int) -> None:
    assert run(name, given)[-1]["code"] == code


def test_openmp_and_blas_compute_after_the_fork(run: Callable[..., Any]) -> None:
    import numpy as np

    from sklearn.ensemble import HistGradientBoostingClassifier  # isort: skip

    X = np.random.default_rng(0).normal(size=(5000, 4))
    HistGradientBoostingClassifier(max_iter=5).fit(X, X[:, 0] > 0)  # the caller has threads; the parent is another one
    for _ in range(2):
        product, end = run("fit", imports=("sklearn.ensemble", "numpy"))
        assert product["value"] == pytest.approx((X.T @ X)[0, 0])
        assert end["code"] == 0


def test_the_parent_only_imports(run: Callable[..., Any]) -> None:
    seen = run("look", imports=("json.tool", "no_such_module", "sklearn.ensemble", "threadpoolctl"))[0]
    assert {"json.tool", "sklearn.ensemble"} <= set(seen["modules"])
    assert not [name for name in seen["modules"] if name.startswith("IPython.core.interactiveshell")]
    assert seen["threads"] == 1


def test_a_module_that_starts_threads_is_left_to_the_children(server: Forkserver, run: Callable[..., Any]) -> None:
    seen = run("look", imports=("cd4ml_threaded", "json.tool"))[0]
    assert server.avoid == {"cd4ml_threaded"}
    assert "cd4ml_threaded" not in seen["modules"]
    assert "json.tool" in seen["modules"]


def test_what_is_wanted_later_is_imported_meanwhile(server: Forkserver, tmp_path: Path) -> None:
    own, until = Forkserver(), time.monotonic() + 20
    task = Task("cd4ml_jobs:look", {}, str(tmp_path), dict(os.environ), imports=("threadpoolctl",))
    own.warm_up(("sklearn.ensemble", "json.tool"))
    assert "json.tool" not in read_all(own.fork(task))[0]["modules"], "a fork waits for one import at most"
    while "json.tool" not in read_all(own.fork(task))[0]["modules"]:
        assert time.monotonic() < until
    own.warm_up(("cd4ml_threaded",))
    while own.avoid != {"cd4ml_threaded"}:
        assert "cd4ml_threaded" not in read_all(own.fork(task))[0]["modules"]
        assert time.monotonic() < until
    own.close()


def test_a_process_that_is_faster_than_its_parent_is_known_all_the_same(tmp_path: Path,
                                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cd4ml_slow.py").write_text("import os, time\nfork = os.fork\ndef prepare():\n    os.fork = late\n"
                                            "def late():\n    pid = fork()\n    time.sleep(0.5 * bool(pid))\n"
                                            "    return pid\ndef tell(given, send):\n    send({'type': 'told'})\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    server = Forkserver(prepare="cd4ml_slow:prepare")
    fork = server.fork(Task("cd4ml_slow:tell", {}, str(tmp_path), dict(os.environ)))
    assert fork.pid > 0
    assert [message["type"] for message in read_all(fork)] == ["told", "exit"]
    server.close()


def test_a_parent_that_has_threads_in_spite_of_all_is_refused(tmp_path: Path,
                                                                monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cd4ml_unsafe.py").write_text("import threading, time\ndef prepare():\n    "
                                              "threading.Thread(target=time.sleep, args=(9,), daemon=True).start()\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    for prepare in ("cd4ml_unsafe:prepare", "no_such_module:nothing"):
        server = Forkserver(prepare=prepare)
        with pytest.raises(ForkUnsafe):
            server.fork(Task("os:getpid", {}, str(tmp_path), dict(os.environ), ("json",)))
        server.close()


def test_a_process_has_its_own_folder_and_environment(run: Callable[..., Any], tmp_path: Path,
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CD4ML_OWN", "1")
    seen = run("look", imports=("sklearn.ensemble",), threads=1)[0]
    assert seen["folder"] == str(tmp_path)
    assert seen["environ"]["CD4ML_OWN"] == "1"
    assert "JE_ARROW_MALLOC_CONF" not in seen["environ"]
    assert {pool["num_threads"] for pool in seen["pools"]} == {1}
    assert seen["environ"]["OMP_NUM_THREADS"] == "1"
    cores = len(os.sched_getaffinity(0))
    assert {pool["num_threads"] for pool in run("look")[0]["pools"]} == {cores}


def test_memory_is_limited(run: Callable[..., Any]) -> None:
    assert run("grow", {"bytes": 200_000_000}, memory=100_000_000)[-1]["code"] == 1
    assert run("grow", {"bytes": 50_000_000}, memory=100_000_000)[0]["size"] == 50_000_000


def test_signals_reach_the_process(server: Forkserver, tmp_path: Path) -> None:
    fork = server.fork(Task("cd4ml_jobs:sleep", {}, str(tmp_path), dict(os.environ)))
    sleeping = fork.read(30) or {}
    fork.send_signal(signal.SIGINT)
    assert [one["type"] for one in read_all(fork)][-2:] == ["interrupted", "exit"]
    wait_until_gone(sleeping["pid"], sleeping["child"])


def test_a_caller_that_is_gone_leaves_no_process(server: Forkserver, tmp_path: Path) -> None:
    fork = server.fork(Task("cd4ml_jobs:sleep", {}, str(tmp_path), dict(os.environ)))
    sleeping = fork.read(30) or {}
    assert is_alive(sleeping["pid"])
    assert is_alive(sleeping["child"])
    fork.close()
    wait_until_gone(sleeping["pid"], sleeping["child"])


def test_a_caller_that_is_killed_leaves_no_process(tmp_path: Path) -> None:
    (tmp_path / "cd4ml_jobs.py").write_text(JOBS)
    code = ("import os, time\nfrom cd4ml.delivery.forkserver import *\nserver = Forkserver()\n"
            f"fork = server.fork(Task('cd4ml_jobs:sleep', {{}}, {str(tmp_path)!r}, dict(os.environ)))\n"
            "print(server.process.pid, fork.read(30)['pid'], flush=True)\ntime.sleep(60)")
    caller = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True,
                              env=os.environ | {"PYTHONPATH": str(tmp_path)})
    assert caller.stdout is not None
    pids = [int(word) for word in caller.stdout.readline().split()]
    caller.kill()
    caller.wait()
    wait_until_gone(*pids)


def test_what_a_thread_sends_late_arrives(run: Callable[..., Any]) -> None:
    assert [one["type"] for one in run("leave_a_thread")] == ["late", "exit"]


def test_code_that_was_edited_since_it_was_imported_is_imported_again(server: Forkserver, tmp_path: Path) -> None:
    folder = Path(os.environ["PYTHONPATH"])
    path = folder / "cd4ml_edited.py"
    for which in ("old", "newer", "newest of all"):  # Python itself tells no edits of one size in one second apart
        path.write_text(f"def tell(given, send):\n    send({{'type': 'told', 'which': {which!r}}})\n")
        for _ in range(2):
            fork = server.fork(Task("cd4ml_edited:tell", {}, str(tmp_path), dict(os.environ), ("cd4ml_edited",)))
            assert fork.read(60) == {"type": "told", "which": which}
            fork.close()
