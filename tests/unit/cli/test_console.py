"""Tables that nobody cuts off, one JSON object on stdout, errors on stderr, progress beside both."""

import io
import json
import subprocess
import sys

import pytest
from rich.console import Console

from cd4ml.base.errors import Cd4mlError, ParameterError
from cd4ml.cli.answer import write_run
from cd4ml.cli.batch import tell_result
from cd4ml.cli.console import Progress, get_console, make_table, show_error, show_result
from cd4ml.cli.delivery import write_outcome
from cd4ml.cli.main import main
from cd4ml.delivery.promotion import Outcome
from cd4ml.delivery.provenance import Provenance
from cd4ml.delivery.record import Run, StepRun
from cd4ml.production.batch import BatchResult

LONG = "/a/very/long/path/" + "x" * 300


def test_a_table_is_not_cut_where_there_is_no_terminal(capsys):
    get_console().print(make_table("Places", ["name", "where"], [("one", LONG), ("[red]two[/]", None)]))
    out = capsys.readouterr().out
    assert "…" not in out
    assert LONG in "".join(out.split()).replace("one", "")
    assert "[red]two[/]" in out, "texts are shown as they are"
    assert "\x1b" not in out


def test_what_people_write_is_shown_as_it_is(capsys):
    words = "see [/docs/why] and [jira-12], [red]not red[/] :bug:"
    metrics = {"accuracy": {"value": 0.9, "low": 0.8, "high": 1.0}}
    steps, provenance = (StepRun("train", "ran", 1.0, "", ""),), Provenance("", False, "", "3", "ada", "here")
    run = Run("r [1]", "iris", "default", "", 1.0, steps, {}, provenance, metrics, {}, f"{words}.html")
    outcome = Outcome("iris", 1, "fail", True, words, words, words, True, run, words)
    done = BatchResult("iris", 1, 1, 1, 0, f"{words}.parquet", f"{words}.csv", 1.0)
    get_console().print(words)
    write_run(get_console(), run)
    write_outcome(get_console(), outcome, [])
    show_result(False, {}, lambda console: console.print(tell_result(done)))
    out = capsys.readouterr().out
    assert out.count(words) == 8, "each as often as it was given"


def test_a_narrow_terminal_folds_and_loses_nothing():
    console = Console(file=io.StringIO(), width=40, force_terminal=True, color_system=None)
    console.print(make_table("", ["name", "where"], [("one", "word" * 30)]))
    assert "".join(console.file.getvalue().split()).count("word") >= 20
    assert "…" not in console.file.getvalue()


@pytest.mark.parametrize("as_json", [True, False])
def test_stdout_holds_one_object_or_the_screen(capsys, as_json):
    show_result(as_json, {"who": "Ærø", "when": None}, lambda console: console.print("a screen"))
    out, err = capsys.readouterr()
    assert err == ""
    if as_json:
        assert json.loads(out) == {"who": "Ærø", "when": None}
        assert out.count("\n") == 1
    else:
        assert out == "a screen\n"


@pytest.mark.parametrize("as_json", [True, False])
def test_an_error_is_for_people_on_stderr_and_for_machines_on_stdout(capsys, as_json):
    error = ParameterError("Unknown [parameter]", where="a.yaml:3", fix="Did you mean 'seed'?")
    assert show_error(error, as_json) == 2
    out, err = capsys.readouterr()
    assert err.startswith("error: Unknown [parameter] (a.yaml:3)")
    assert "Did you mean 'seed'?" in err
    assert (json.loads(out)["where"] if as_json else out) == ("a.yaml:3" if as_json else "")


def test_progress_goes_to_stderr_and_says_what_stopped(capsys):
    def work():
        with Progress() as progress:
            progress("prepare", "cached", 0.0)
            progress("train", "running", 0.0)
            raise Cd4mlError("stop")

    with pytest.raises(Cd4mlError):
        work()
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.split() for line in err.splitlines()] == [
        ["prepare", "unchanged,", "taken", "from", "the", "cache"], ["train", "running"], ["train", "stopped"]]


def test_an_unchanged_step_is_told_without_importing_rich():
    code = ("import sys; from cd4ml.cli.console import Progress, show_result\n"
            "with Progress() as progress: progress('train', 'cached', 0.0)\n"
            "show_result(True, {}, print); sys.exit('rich.console' in sys.modules)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr.split()[0]) == (0, "{}\n", "train")


@pytest.mark.parametrize("as_json", [True, False])
def test_outside_a_workbench_the_command_ends_with_two(tmp_path, monkeypatch, capsys, as_json):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        main(["releases", "iris", *(["--json"] if as_json else [])])
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert "not part of a workbench" in err
    assert bool(out) == as_json


def test_version_is_the_only_thing_on_stdout(capsys):
    from cd4ml import __version__

    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"{__version__}\n"
