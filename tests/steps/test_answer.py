"""What is known is answered before the command line is imported, and in the same words as by the command line."""

import re
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

WORDS = (["iris"], ["iris", "--json"], ["--json", "iris"], ["iris", "-p", "train.C=0.5"],
         ["-p", "train.C=0.5", "--params", "default", "iris", "--json"])
LONG = "import sys; from cd4ml.cli.main import main; main(sys.argv[1:])"
SHORT = """import sys
from cd4ml.cli.start import start
try:
    start()
finally:
    print('typer' in sys.modules, file=sys.stderr)
"""


def call(workbench, code, *words):
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=workbench.folder, env=workbench.environ, text=True,
                          capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def drop_times(text):
    return re.sub(r'"seconds": [\d.]+', "", text)


def test_both_ways_say_the_same(workbench):
    for words in (["iris"], ["iris", "-p", "train.C=0.5"]):
        workbench.call("run", *words)
    for words in WORDS:
        out, err = call(workbench, LONG, "run", *words)  # asked in these words, it is remembered
        short, told = call(workbench, SHORT, "run", *words)
        assert drop_times(short) == drop_times(out)
        assert told == f"{err}False\n", "the command line was imported, or told something else"


def test_what_was_touched_is_left_to_the_command_line(workbench):
    for words in (("iris",), ("iris", "--force")):
        workbench.call("run", "iris")
        assert call(workbench, SHORT, "run", "iris")[1].endswith("False\n")
        (workbench.folder / "params/iris/default.yaml").touch()
        assert call(workbench, SHORT, "run", *words)[1].endswith("True\n")
