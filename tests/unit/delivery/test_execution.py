"""Limits, deaths and interruptions of a notebook: each is told with its cell, and what was shown is kept."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from waiting import wait_until

from cd4ml.base.errors import StepError
from cd4ml.delivery import execution as module
from cd4ml.delivery.execution import Work, choose_way, execute_notebook, plan_cells
from cd4ml.delivery.kernels import Execution, Way
from cd4ml.delivery.notebooks import read_notebook, write_notebook

pytestmark = pytest.mark.slow
WAYS: tuple[Way, ...] = ("cells", "kernel", "ordinary")
PAPERMILL = str(Path(sys.executable).with_name("papermill"))


def make_notebook(folder: Path, *sources: str, language: str = "python") -> Path:
    cells = [{"cell_type": "code", "id": f"c{i}", "metadata": {}, "source": source, "outputs": [],
              "execution_count": None} for i, source in enumerate(sources)]
    about = {"kernelspec": {"name": "python3", "display_name": "", "language": language}}
    path = folder / "made.ipynb"
    path.write_bytes(write_notebook({"nbformat": 4, "nbformat_minor": 5, "metadata": about, "cells": cells}))
    return path


Run = Callable[..., list[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Return a function that executes cells and returns the text that each shows."""
    def run(*sources: str, **options: object) -> list[str]:
        folder = tmp_path / "out"
        folder.mkdir(exist_ok=True)
        notebook = make_notebook(tmp_path, *sources)
        execute_notebook(Work(notebook, folder, {}, Execution(**options)))  # type: ignore[arg-type]
        return read_shown(folder)
    return run


def read_shown(folder: Path) -> list[str]:
    assert (folder / "made.html").read_text().lower().startswith("<!doctype html>")
    cells = read_notebook(folder / "made.ipynb")["cells"]
    return ["".join(one.get("text") or one.get("ename") or one["data"]["text/plain"] for one in cell["outputs"])
            for cell in cells]


@pytest.mark.parametrize("way", WAYS)
def test_a_cell_that_takes_too_long_is_stopped(run: Run, tmp_path: Path, way: Way) -> None:
    with pytest.raises(StepError, match=r"was stopped") as stopped:
        run("1", "import time\nprint('begun', flush=True)\ntime.sleep(60)", "print('never')", way=way, cell_seconds=1)
    shown = read_shown(tmp_path / "out")
    assert shown[2] == ""
    assert shown[1].startswith("begun")
    if way == "cells":
        assert "cell 2" in stopped.value.what
        assert "KeyboardInterrupt" in shown[1]


@pytest.mark.parametrize("way", WAYS)
def test_a_notebook_that_takes_too_long_is_stopped(run: Run, way: Way) -> None:
    with pytest.raises(StepError, match=r"was stopped.*more than 3 s in all"):
        run("1", *["import time; time.sleep(1.5)"] * 5, way=way, seconds=3)


@pytest.mark.parametrize("way", WAYS)
def test_a_kernel_that_dies_is_told_with_its_cell(run: Run, tmp_path: Path, way: Way) -> None:
    with pytest.raises(StepError, match="lost its kernel") as lost:
        run("print('one')", "print('two', flush=True)\nimport os, signal, time\ntime.sleep(0.5)\n"
            "os.kill(os.getpid(), signal.SIGKILL)", "print('never')", way=way)
    assert read_shown(tmp_path / "out") == ["one\n", "two\n", ""]
    if way == "cells":
        assert "cell 2" in lost.value.what
        assert "signal 9 (SIGKILL" in lost.value.got


def test_a_crash_in_c_says_where_it_was(run: Run) -> None:
    with pytest.raises(StepError, match=r"cell 1.*SIGSEGV.*Segmentation fault"):
        run("import ctypes; ctypes.string_at(0)")


@pytest.mark.parametrize("way", WAYS)
def test_memory_is_limited(run: Run, way: Way) -> None:
    with pytest.raises(StepError, match="MemoryError"):
        run("x = bytearray(3_000_000_000)", way=way, memory=2_000_000_000)


@pytest.mark.parametrize("way", WAYS)
def test_too_much_output_fails_loudly(run: Run, way: Way) -> None:
    with pytest.raises(StepError, match=r"1,000,000 bytes|bytes in the executed notebook"):
        run("for i in range(300): print('x' * 10_000)", "print('never')" if way == "cells" else "1", way=way,
            output=1_000_000)


def test_too_much_output_past_python_fails_loudly(run: Run) -> None:
    with pytest.raises(StepError, match=r"cell 1.*more than 1,000,000 bytes"):
        run("import subprocess; subprocess.run('yes', shell=True)", output=1_000_000)


@pytest.mark.parametrize("way", WAYS)
def test_ctrl_c_stops_the_notebook_and_keeps_what_it_showed(tmp_path: Path, way: Way) -> None:
    mark, folder = tmp_path / "mark", tmp_path / "out"
    folder.mkdir()
    notebook = make_notebook(tmp_path, "print('one')", "import pathlib, time\nprint('two', flush=True)\n"
                             f"pathlib.Path({str(mark)!r}).touch()\ntime.sleep(60)")
    code = ("from pathlib import Path\nfrom cd4ml.delivery.execution import *\n"
            "from cd4ml.delivery.kernels import Execution\n"
            f"execute_notebook(Work(Path({str(notebook)!r}), Path({str(folder)!r}), {{}}, Execution({way!r})))")
    caller = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    wait_until(mark.exists, "the second cell")
    time.sleep(0.5)
    caller.send_signal(signal.SIGINT)
    _, said = caller.communicate(timeout=30)
    assert "KeyboardInterrupt" in said
    assert caller.returncode != 0
    shown = read_shown(folder)
    assert shown[0] == "one\n"
    assert shown[1].startswith("two")


def test_what_nobody_had_read_before_ctrl_c_is_heard_all_the_same(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    sources = ["1 + 1", f"print('two', flush=True)\nopen({str(mark)!r}, 'w').close()\nimport time; time.sleep(60)"]
    notebook = read_notebook(make_notebook(tmp_path, *sources))
    messages = plan_cells(notebook, tmp_path, Execution("cells")).follow()
    heard = [next(messages)]
    wait_until(mark.exists, "the second cell")  # the end of the first is not read yet
    heard.append(messages.throw(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        heard += messages  # up to where it raises
    assert list(dict.fromkeys((one["cell"], one["type"]) for one in heard)) == [
        (0, "start"), (0, "execute_result"), (0, "end"), (1, "start"), (1, "stream"), (1, "error"), (1, "end")]


def test_where_nothing_can_be_forked_ordinary_kernels_do(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "can_fork", lambda: False)
    assert choose_way({"metadata": {}, "cells": []}) == "ordinary"
    assert run("import os, sys; print('ipykernel_launcher' in ' '.join(sys.orig_argv))", "6 * 7") == ["True\n", "42"]


def test_a_parent_that_cannot_fork_leaves_it_to_ordinary_kernels(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from cd4ml.delivery import kernels
    from cd4ml.delivery.forkserver import Forkserver

    monkeypatch.setattr(kernels, "find_forkserver", lambda: Forkserver(prepare="no_such_module:nothing"))
    assert run("6 * 7") == ["42"]


def test_widgets_get_a_real_kernel() -> None:
    cell = {"cell_type": "code", "source": "import ipywidgets as w", "metadata": {}}
    assert choose_way({"metadata": {}, "cells": [cell]}) == "kernel"
    assert choose_way({"metadata": {"kernelspec": {"language": "R"}}, "cells": [cell]}) == "ordinary"


def test_a_module_beside_the_notebook_is_the_one_that_counts(run: Run, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "skops.py").write_text("name = 'mine'")
    assert run("import skops; skops.name") == ["'mine'"]


def test_it_counts_as_well_where_the_warm_parent_has_imported_the_library(run: Run, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert run("import skops.io; skops.__name__") == ["'skops'"]
    (tmp_path / "out" / "skops.py").write_text("name = 'mine'")
    assert run("import skops; skops.name") == ["'mine'"]


def test_surroundings_that_a_notebook_sets_come_before_its_imports(run: Run) -> None:
    assert run("import os\nos.environ['OMP_NUM_THREADS'] = '1'", "import sys; 'cmd' in sys.modules", "import cmd") == [
        "", "False", ""]


def test_papermill_runs_any_notebook_with_the_engine(tmp_path: Path) -> None:
    notebook = make_notebook(tmp_path, "x = 1", "x + y", "import sys; sys.orig_argv[1]")
    done = subprocess.run([PAPERMILL, "--engine", "cd4ml", notebook.name, "out.ipynb", "-p", "y", "2", "--log-output"],
                          cwd=tmp_path, capture_output=True, text=True, check=True)
    executed = read_notebook(tmp_path / "out.ipynb")
    texts = [output["data"]["text/plain"] for cell in executed["cells"] for output in cell["outputs"]]
    assert texts == ["3", "'-c'"]  # the second: not an ipykernel
    assert {cell["metadata"]["papermill"]["status"] for cell in executed["cells"]} == {"completed"}
    assert executed["metadata"]["papermill"]["duration"] > 0
    assert executed["metadata"]["language_info"]["name"] == "python"
    assert "Executing Cell 2" in done.stderr


def test_papermill_tells_errors_and_timeouts_of_the_engine(tmp_path: Path) -> None:
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError

    options = {"engine_name": "cd4ml", "progress_bar": False, "cwd": tmp_path}
    notebook = make_notebook(tmp_path, "1", "1 / 0", "3")
    with pytest.raises(papermill.PapermillExecutionError, match="ZeroDivisionError"):
        papermill.execute_notebook(notebook, tmp_path / "out.ipynb", **options)
    cells = [cell for cell in read_notebook(tmp_path / "out.ipynb")["cells"] if cell["cell_type"] == "code"]
    assert [cell["metadata"]["papermill"]["status"] for cell in cells] == ["completed", "failed", "pending"]
    notebook = make_notebook(tmp_path, "import time; time.sleep(60)")
    with pytest.raises(CellTimeoutError):
        papermill.execute_notebook(notebook, tmp_path / "out.ipynb", execution_timeout=1, **options)
    notebook = make_notebook(tmp_path, "import os; os._exit(4)")
    with pytest.raises(DeadKernelError, match="exit code 4"):
        papermill.execute_notebook(notebook, tmp_path / "out.ipynb", **options)


def test_a_forked_kernel_is_what_jupyter_client_finds() -> None:
    from importlib.metadata import entry_points

    found = {point.name: point for point in entry_points(group="jupyter_client.kernel_provisioners")}
    assert found["cd4ml-forked"].load().__name__ == "ForkedProvisioner"


def test_the_signal_is_named(tmp_path: Path) -> None:
    from cd4ml.delivery.kernels import explain_exit

    assert explain_exit(-signal.SIGTERM) == "signal 15 (SIGTERM)"
    assert explain_exit(0) == "exit code 0"
    assert explain_exit(None) == "the process and its parent were lost"
