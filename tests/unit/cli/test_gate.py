"""What `cd4ml gate` shows and ends with, and what `cd4ml release` says of rules that did not pass."""

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from cd4ml.cli.delivery import write_objections
from cd4ml.cli.gate import list_rule, write_verdict
from cd4ml.cli.main import main
from cd4ml.delivery.judging import Verdict
from cd4ml.delivery.ledger import HoldoutUse
from cd4ml.delivery.provenance import Provenance
from cd4ml.delivery.record import Run, StepRun
from cd4ml.model.evaluation import Interval
from cd4ml.model.gate import Decision, judge_rule
from cd4ml.model.rules import Rule

RUN = Run("20260102-030405-a1b2", "iris", "default", "", 0.0, (), {}, Provenance("", False, "", "3.11", "ada", ""))
ACCURACY = Interval(0.95, 0.88, 1.0, 0.95, 60, 60, 0.9, 0.99)
PASS, FAIL = (judge_rule(Rule(metric="accuracy", at_least=limit), ACCURACY) for limit in (0.8, 0.999))
OPEN = judge_rule(Rule(metric="accuracy", at_least=0.95, name="[sharp]"), ACCURACY)


def make_verdict(status, *results):
    return Verdict(RUN, "default", Decision(status, results, "because"), None, HoldoutUse(3, "a" * 64, "1" * 64),
                   StepRun("evaluate", "ran", 0.5, "", ""), "evaluate.html")


def show(write, value):
    console = Console(file=io.StringIO(), markup=False, width=200, color_system=None, soft_wrap=True)
    write(console, value)
    return console.file.getvalue()


def test_each_rule_is_a_line_with_its_figures():
    out = show(write_verdict, make_verdict("fail", PASS, FAIL, OPEN))
    lines = [line for line in out.splitlines() if "0.90 to 0.99" in line]
    assert [line.split()[1] for line in lines] == ["pass", "fail", "inconclusive"]
    assert "[sharp]" in lines[2], "a name is shown as it is"
    for word in ("✘ fail", "≥ 0.999", "because", "no champion yet", "model 3", "a" * 16, "evaluate.html"):
        assert word in out


def test_a_use_that_was_not_counted_is_said():
    verdict = make_verdict("pass", PASS)
    out = show(write_verdict, replace(verdict, holdout_use=replace(verdict.holdout_use, fault="it was not counted")))
    assert f"{'a' * 16} (it was not counted)" in out


@pytest.mark.parametrize(("rule", "interval", "expected"), [
    (Rule(metric="log_loss", at_most=0.5), Interval(0.31, 0.2, 0.4, 0.95, 1500, 31, 0.22, 0.39),
     ("0.31", "0.22 to 0.39", "≤ 0.5", "1,500")),
    (Rule(metric="accuracy", margin=0.0), Interval(-0.02, -0.1, 0.1, 0.95, 60, 60, -0.08, 0.04),
     ("−0.02", "−0.08 to 0.04", "> 0", "60")),
    (Rule(metric="accuracy", margin=0.01), None, ("–", "–", "> −0.01", "–")),
    (Rule(measure="size", at_most=5), Interval(1.25, 1.25, 1.25, 0.95, 1), ("1.25", "–", "≤ 5", "1")),
])
def test_figures_are_rounded_to_what_they_support(rule, interval, expected):
    assert list_rule(judge_rule(rule, interval))[2:6] == expected


def test_what_did_not_pass_is_told_line_by_line_at_the_end_of_a_release():
    run = replace(RUN, decision=Decision("fail", (PASS, FAIL, OPEN), "because").to_dict())
    lines = show(write_objections, run).splitlines()
    assert [line.split(":")[0] for line in lines] == ["✘ fail Accuracy ≥ 0.999", "? inconclusive [sharp]"]
    assert lines[0].endswith(FAIL.reason)
    assert show(write_objections, replace(RUN, decision=Decision("pass", (PASS,), "").to_dict())) == ""
    assert show(write_objections, RUN) == "", "a run without a decision"


@pytest.mark.parametrize(("status", "code"), [("pass", 0), ("fail", 1), ("inconclusive", 1)])
def test_the_exit_code_follows_from_the_decision(root, monkeypatch, capsys, status, code):
    verdict = make_verdict(status, PASS)
    monkeypatch.chdir(root)
    monkeypatch.setattr("cd4ml.delivery.judging.find_run", lambda settings, problem, run_id: RUN)
    monkeypatch.setattr("cd4ml.delivery.judging.judge_run", lambda order, run, now: verdict)
    with pytest.raises(SystemExit) as caught:
        main(["gate", "iris", "2026", "--json"])
    assert caught.value.code == code
    told = json.loads(capsys.readouterr().out)
    assert (told["run"], told["decision"]["status"], told["holdout_use"]["count"]) == (RUN.run_id, status, 3)
