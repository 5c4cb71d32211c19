"""A comparison as a comment: never too long, whatever is in it, and nothing in it acts."""

import re

import pytest

from cd4ml.data.drift import FeatureDrift
from cd4ml.delivery.cells import CellChange
from cd4ml.delivery.changes import Change, Changes
from cd4ml.delivery.comment import escape_text, fold_cell, quote_value, write_comment
from cd4ml.model.evaluation import Interval

EVIL = ["`code`", "<b>", "</details>", "<!-- ", "-->", "@ada", "#12", "a|b", "[x](http://y.z)", "![i](u)", "*b*", "_i_",
        "~~s~~", "\\", "&lt;", "www.example.org", "https://example.org", ":+1:", "$x$", "a\nb", "a\r\n\n# b",
        "\x00", "\ud800", "\u2028| b |", "```\n", "ünï ✓ 日本 🙂"]


def compare(**parts):
    return Changes("release 2", "release 1", **parts)


@pytest.mark.parametrize("text", EVIL)
def test_no_sign_acts(text):
    for shown in (escape_text(text), quote_value(text).removeprefix("<code>").removesuffix("</code>")):
        assert not re.search(r"[`<>@*_|\[\]~\\$\n\r\x00\ud800\u2028]|\bwww\.|:(?=\S)|&(?!#\d+;)|(?<!&)#", shown)


@pytest.mark.parametrize("text", EVIL)
def test_nothing_in_a_diff_ends_its_fence(text):
    for diff in (f"+{text}", f" {text}", text, f"```\n{text}\n`````\n"):
        lines = fold_cell(CellChange(text, 1, "changed", diff)).splitlines()
        fence = next(line for line in lines if line.endswith("diff") and line.startswith("```"))[:-4]
        closing = [i for i, line in enumerate(lines) if re.fullmatch(rf" {{0,3}}{fence}`*\s*", line)]
        assert len(closing) == 1
        assert lines[closing[0] + 1:] == ["", "</details>"]


HUGE = {
    "params": compare(params=tuple(Change(f"train.p{i}", "`" * 500, "@" * 500) for i in range(3000))),
    "environment": compare(environment=tuple(Change(f"package-{i}", None, "1" * 50) for i in range(9000))),
    "cells": compare(cells=tuple(CellChange("train", i, "added", "+`" * 300) for i in range(3000))),
    "one cell": compare(cells=(CellChange("train", 1, "changed", "+x\n" * 500_000),)),
    "one line": compare(cells=(CellChange("train", 1, "changed", "`" * 500_000),)),
    "rules": compare(rules=tuple(Change("<" * 300 + str(i), None, None) for i in range(3000))),
    "notes": compare(notes=("@" * 5000,) * 500),
    "drift": compare(drift=tuple(FeatureDrift(f"x{i}", 9.0, 0, 0, 0, 9) for i in range(3000))),
    "names": Changes("run " + "🙂" * 9000, "@" * 9000, params=(Change("a", 1, 2),)),
}


@pytest.mark.parametrize("changes", HUGE.values(), ids=HUGE)
def test_it_is_never_too_long_and_says_what_was_left_out(changes):
    comment = write_comment("toy", changes)
    assert len(comment) < 65_000
    assert comment.count("<details>") == comment.count("</details>")
    if len(changes.params) > 1:
        assert re.search(r"Left out, as a comment has no room for more: parameters \([\d,]+\)\.\n$", comment)


def test_all_of_it_at_once_keeps_the_most_important():
    accuracy = Change("accuracy", Interval(0.9, 0.8, 1.0, 0.95, 60), Interval(0.9, 0.8, 1.0, 0.95, 60))
    told = {"status": "pass", "reason": ""}
    decision = Change("decision", told, {"status": "fail", "reason": "it is worse"})
    changes = compare(decision=decision, metrics=(accuracy,), params=HUGE["params"].params, cells=HUGE["cells"].cells,
                      environment=HUGE["environment"].environment)
    comment = write_comment("toy", changes)
    assert len(comment) < 65_000
    assert comment.index("✔ pass → ✘ fail") < comment.index("#### Metrics") < comment.index("#### Parameters")
    assert re.search(r"parameters \([\d,]+\), entries of the environment \([\d,]+\), cells of code \(3,000\)", comment)


def test_a_small_one_is_whole_and_in_order():
    row = {"rule": {}, "status": "pass", "value": 0.9, "threshold": 0.8}
    changes = compare(rules=(Change("Accuracy ≥ 0.8", row, row),), params=(Change("train.C", 1.0, 0.5),),
                      data=(Change("train.rows", 90, 100),), environment=(Change("numpy", "2.1", "2.2"),),
                      commit=Change("commit", "c0ffee", "decaf"), cells=(CellChange("train", 2, "changed", "-a\n+b"),),
                      drift=(FeatureDrift("x", 0.5, 0, 0.1, 0, 90),), notes=("A note.",))
    comment = write_comment("toy", changes)
    heads = re.findall("#### (.*)", comment)
    assert heads == ["Decision", "Parameters", "Data", "Drift", "Environment", "Code"]
    for line in ("| <code>train.C</code> | <code>1.0</code> | <code>0.5</code> |", "> A note.", "```diff\n-a\n+b\n```",
                 "| Accuracy ≥ 0.8 | ✔ pass: 0.9, limit 0.8 | ✔ pass: 0.9, limit 0.8 |", "| <code>x</code> | 0.50 |"):
        assert line in comment
    assert "Left out" not in comment


def test_the_first_release_has_a_comment_as_well():
    assert "There is no champion to compare with" in write_comment("toy", Changes("release 1", None))
