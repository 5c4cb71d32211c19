"""What a notebook shows is the same on every way of running it: plain papermill's, cells in a fork, a forked kernel."""

import re
from pathlib import Path
from typing import Any

import pytest

from cd4ml.base.errors import StepError
from cd4ml.delivery.execution import Work, execute_notebook
from cd4ml.delivery.kernels import Execution
from cd4ml.delivery.notebooks import read_notebook, write_notebook

pytestmark = pytest.mark.slow

RICH = """
class Rich:
    def _repr_html_(self): return "<b>rich</b>"
    def _repr_latex_(self): return "$x$"
    def _repr_json_(self): return {"a": [1, None]}
    def __repr__(self): return "Rich()"
class Bundle:
    def _repr_mimebundle_(self, include=None, exclude=None):
        return {"text/x-own": "own", "text/plain": "plain"}, {"text/x-own": {"k": 1}}
"""
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="

# name: sources of the cells; a cell may be a pair of its source and its tags
CASES: dict[str, list[Any]] = {
    "values": ["1 + 1", "None", "'text'", "x = 3", "x;", "_", "Out[1], In[1]", "", "# only a comment"],
    "streams": ["import sys\nfor i in range(3):\n    print('out', i)\n    print('err', i, file=sys.stderr, flush=True)",
                "print('no newline', end='')", "sys.stdout.write('written'); sys.stderr.write('to stderr\\n');"],
    "many prints": ["for i in range(20_000): print(i)", "print('x' * 1_000_000)"],
    "carriage return": ["import time\nfor i in range(5):\n    print(f'\\r{i}', end='', flush=True)", "print('a\\bb')"],
    "unicode": ["print('ä€😀\\u2028x')", "'ä€😀'", "print(b'\\xff')"],
    "mime types": [RICH, "Rich()", "Bundle()", "from IPython.display import *\ndisplay(Rich(), Bundle(), 1)",
                   "display(HTML('<i>h</i>'), Markdown('*m*'), Latex('$y$'), JSON({'a': 1}), SVG('<svg></svg>'))",
                   "display(Javascript('1'), Pretty('p'))",
                   f"import base64\ndisplay(Image(base64.b64decode('{PNG}')))",
                   "display({'text/plain': 'raw', 'application/vnd.own+json': {'b': [1]}}, raw=True)"],
    "displays that change": ["from IPython.display import display, update_display\nh = display('one', display_id='a')",
                             "h.update('two')", "print('between'); update_display('three', display_id='a')",
                             "display('four', display_id='a')", "h.update('five')"],
    "clearing": ["from IPython.display import clear_output\nprint(1); clear_output(); print(2)",
                 "print(3); clear_output(wait=True); print(4)", "print(5); clear_output(wait=True)"],
    "tracebacks": [("def f(n):\n    return 1 / n\nf(0)", ["raises-exception"]), ("1 +", ["raises-exception"]),
                   ("try:\n    {}['a']\nexcept KeyError as e:\n    raise ValueError('b') from e", ["raises-exception"]),
                   ("import json\njson.loads('{')", ["raises-exception"]), ("undefined", ["raises-exception"]),
                   ("class E(Exception):\n    def __str__(self): raise OSError\nraise E", ["raises-exception"]),
                   ("class B:\n    def __repr__(self): raise TypeError('bad')\nB()", ["raises-exception"]),
                   ("raise ExceptionGroup('g', [ValueError(1)])", ["raises-exception"]), "'went on'"],
    "stops at an error": ["print('before')", "print('in'); raise ValueError('stop')", "print('never')"],
    "stops at an error of syntax": ["x = (1", "print('never')"],
    "sys.exit": ["import sys; print(1); sys.exit()", "print('never')"],
    "sys.exit(0)": ["import sys; sys.exit(0)", "print('never')"],
    "sys.exit(3)": ["import sys; sys.exit(3)", "print('never')"],
    "skipped": ["1", ("print('never')", ["skip-execution"]), "2"],
    "await": ["import asyncio\nasync def f(): await asyncio.sleep(0.01); return 5\nawait f()",
              "t = asyncio.create_task(f()); t.done()", "await t", "asyncio.get_running_loop().is_running()",
              ("asyncio.run(f())", ["raises-exception"]), "1"],
    "magics": ["%pwd\nNone", "%%capture c\nprint('hidden')", "c.stdout", "%%html\n<u>u</u>", "%%bash\necho from bash",
               "%precision 3", "3.14159", "%who", "%%writefile a.txt\nx",
               "%load_ext autoreload", ("%unknown_magic", ["raises-exception"]), "%xmode Plain",
               ("1/0", ["raises-exception"])],
    "help": ["len?", "print('after')"],
    # ipykernel hears what is written past Python in a thread, and loses what that thread reads after the cell's end
    "shell": ["!echo one; echo two 1>&2", "x = !echo three\nx", "import os, time; os.system('echo four; sleep 0.5')",
              "import subprocess; subprocess.run(['sh', '-c', 'echo five; sleep 0.5']).returncode",
              "os.write(1, b'six\\n'); time.sleep(0.5)", "_exit_code"],
    "surroundings": ["get_ipython().__class__.__name__", "'IPKernelApp' in get_ipython().config", "__name__",
                     "import sys; sys.path[0], '__file__' in globals()", "sys.stdout.isatty()", "sys.path.index('')",
                     "import os; [os.environ.get(k) for k in ('TERM', 'PAGER', 'MPLBACKEND', 'CLICOLOR')]"],
    "pickles": ["import pickle\nclass A:\n    pass\npickle.loads(pickle.dumps(A())).__class__.__module__",
                "import multiprocessing as mp\ndef g(x): return x + 1",
                "with mp.get_context('fork').Pool(2) as p: print(p.map(g, [1, 2]))"],
    "input": [("input('q')", ["raises-exception"]), ("import getpass; getpass.getpass()", ["raises-exception"])],
    "figures": ["import matplotlib.pyplot as plt\nplt.plot([1, 2]);", "fig, ax = plt.subplots(figsize=(1, 1)); fig",
                "plt.figure(figsize=(1, 1)); plt.show(); print('after')", "plt.plot([3]); plt.figure()"],
    "matplotlib magic": ["%matplotlib inline\nimport matplotlib.pyplot as plt",
                         "plt.figure(figsize=(1, 1)).gca().plot([1])",
                         "%config InlineBackend.figure_formats = ['svg']", "plt.get_backend()"],
    "frames": ["import pandas as pd, numpy as np\ndf = pd.DataFrame({'a': [1, 2], 'b': ['x', None]}); df", "df.a",
               "np.arange(3)", "df.style.set_uuid('u')", "print(df)"],
    "warnings": ["import warnings\nwarnings.warn('careful')", "warnings.warn('old', DeprecationWarning)",
                 "def f(): warnings.warn('in f', stacklevel=2)\nf()"],
    "logging": ["import logging\nlogging.warning('w'); logging.info('i')", "logging.getLogger('a').error('e')"],
    "threads": ["import threading\nt = threading.Thread(target=print, args=('thread',)); t.start(); t.join()"],
    "tqdm": ["from tqdm import tqdm\nfor i in tqdm(range(3), bar_format='{n}'): pass",
             "import warnings; warnings.simplefilter('ignore')\nfrom tqdm.auto import tqdm as t\nt.__module__"],
    "large": ["'y' * 5_000_000"],
    "hooks": ["def hook(*a): print('hooked')\nget_ipython().events.register('post_run_cell', hook)", "1", "2"],
    "payload": ["get_ipython().set_next_input('x = 1')", "1"],
}
UNLIKE = {"figures", "matplotlib magic"}  # pictures: compared by type only


def write_case(name: str, folder: Path) -> Path:
    cells = [cell if isinstance(cell, tuple) else (cell, []) for cell in CASES[name]]
    made = [{"cell_type": "code", "id": f"c{i}", "metadata": {"tags": tags}, "source": source, "outputs": [],
             "execution_count": None} for i, (source, tags) in enumerate(cells)]
    path = folder / "case.ipynb"
    about = {"kernelspec": {"name": "python3", "display_name": "Python", "language": "python"}}
    path.write_bytes(write_notebook({"nbformat": 4, "nbformat_minor": 5, "metadata": about, "cells": made}))
    return path


def run_papermill(path: Path, folder: Path) -> str:
    import papermill

    try:
        papermill.execute_notebook(path, folder / path.name, progress_bar=False, cwd=folder)
    except papermill.PapermillExecutionError as error:
        return error.ename
    return ""


def run_ours(path: Path, folder: Path, way: str) -> str:
    try:
        execute_notebook(Work(path, folder, {}, Execution(way=way)))
    except StepError as error:
        return error.got.partition(":")[0]
    return ""


def read_cells(path: Path) -> list[dict[str, Any]]:
    cells = read_notebook(path)["cells"]
    return [cell for cell in cells if "papermill-error-cell-tag" not in cell["metadata"].get("tags", ())]


def simplify(cell: dict[str, Any], name: str) -> dict[str, Any]:
    """Return what is compared of a cell: streams as a whole, as papermill cuts them by the clock."""
    shown: list[dict[str, Any]] = []
    streams: dict[str, str] = {}
    for output in cell["outputs"]:
        if output["output_type"] == "stream":
            streams[output["name"]] = streams.get(output["name"], "") + output["text"]
        else:
            kinds = [kind for kind in output.get("data", {}) if name in UNLIKE and kind.startswith("image")]
            pictures = dict.fromkeys(kinds, "picture")
            shown.append(output | ({"data": output["data"] | pictures} if pictures else {}))
    found = {"shown": shown, "streams": streams, "count": cell["execution_count"]}
    return eval(re.sub(r"0x[0-9a-f]{6,}|ipykernel_\d+/\d+", "…", repr(found)))


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a function that gives what plain papermill makes of a case: its cells and the error's name."""
    known: dict[str, Any] = {}

    def find(name: str) -> Any:
        if name not in known:
            folder = tmp_path_factory.mktemp("papermill")
            path = write_case(name, tmp_path_factory.mktemp("case"))
            known[name] = (run_papermill(path, folder), read_cells(folder / path.name))
        return known[name]

    return find


@pytest.mark.parametrize("way", ["cells", "kernel"])
@pytest.mark.parametrize("name", CASES)
def test_outputs_are_those_of_papermill(name: str, way: str, reference: Any, tmp_path: Path,
                                        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MPLBACKEND", raising=False)
    monkeypatch.delenv("PYTEST_CURRENT_TEST")  # a kernel that sees it does not catch what is written past Python
    path = write_case(name, tmp_path)
    folder = tmp_path / "out"
    folder.mkdir()
    error, wanted = reference(name)
    got = run_ours(path, folder, way)
    cells = read_cells(folder / path.name)
    allowed = any(isinstance(cell, tuple) for cell in CASES[name])  # papermill reports errors that are allowed as well
    assert got == ("" if allowed else error)
    assert [simplify(cell, name) for cell in cells] == [simplify(cell, name) for cell in wanted]


def test_what_is_written_past_python_at_a_cells_very_end_is_kept(tmp_path: Path,
                                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CASES, "last words", ["import os"] + [f"os.write(1, b'word {i}\\n');" for i in range(20)])
    path = write_case("last words", tmp_path)
    folder = tmp_path / "out"
    folder.mkdir()
    run_ours(path, folder, "cells")
    said = [simplify(cell, "last words")["streams"] for cell in read_cells(folder / path.name)[1:]]
    assert said == [{"stdout": f"word {i}\n"} for i in range(20)]
