import json
import subprocess
import sys
from pathlib import Path

import pytest

CD4ML = str(Path(sys.executable).parent / "cd4ml")
COMMANDS = ["run", "gate", "release", "releases", "rollback", "params", "data list", "data show", "data check", "serve",
            "monitor", "site", "lab", "doctor"]


def call(*words):
    done = subprocess.run([CD4ML, *words], capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example_and_machines_can_read_the_answer(command):
    code, out, _ = call(*command.split(), "--help")
    assert code == 0
    assert "Example" in out
    assert ("--json" in out) == (command not in ("serve", "lab"))


def test_help_loads_nothing_heavy():
    heavy = ["pandas", "numpy", "sklearn", "scipy", "mlflow", "papermill", "fastapi", "pydantic", "matplotlib"]
    code = ("import sys\nfrom cd4ml.cli.main import main\ntry:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
            f"sys.stderr.write(','.join(name for name in {heavy} if name in sys.modules))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stderr == ""


@pytest.mark.parametrize(("words", "hint"), [(("runn", "iris"), "runn"), (("run",), "problem"),
                                             (("run", "iris", "--fast"), "--fast")])
def test_a_wrong_word_ends_with_two(words, hint):
    code, out, err = call(*words)
    assert (code, out) == (2, "")
    assert hint in err


def test_json_is_one_object_on_stdout():
    code, out, err = call("params", "flights", "--json", "-p", "train.max_depth=6")
    assert code == 0
    value = json.loads(out)["params"]["train.max_depth"]
    assert (value["value"], value["source"]) == (6, "-p train.max_depth=6")
    assert err == ""


def test_an_error_is_json_too():
    code, out, err = call("params", "flights", "--json", "-p", "train.max_dept=6")
    assert code == 2
    assert "Did you mean 'max_depth'" in json.loads(out)["fix"]
    assert err.startswith("error: ")
    assert "Traceback" not in err


def test_params_tells_the_whole_place_where_each_value_comes_from():
    code, out, _ = call("params", "flights", "--params", "wider")
    assert code == 0
    assert "params/flights/wider.yaml:6" in out
    assert "params/flights/default.yaml:6" in out


def test_ctrl_c_before_the_command_line_is_there_shows_no_traceback():
    hasty = ("import sys\nclass Hasty:\n    def find_spec(self, name, *_):\n        if name == 'cd4ml.cli.main':\n"
             "            raise KeyboardInterrupt\nsys.meta_path.insert(0, Hasty())\n"
             "from cd4ml.cli.start import start\nstart()\n")
    done = subprocess.run([sys.executable, "-c", hasty], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "")
