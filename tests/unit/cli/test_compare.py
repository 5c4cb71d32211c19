"""The forms of a comparison on the command line, and what it does with a file."""

import json

import pytest

from cd4ml.cli.compare import Form, render_form, write_changes
from cd4ml.cli.console import get_console
from cd4ml.delivery.cells import CellChange
from cd4ml.delivery.changes import Change, Changes
from cd4ml.delivery.comparison import Subject

CHANGES = Changes("release 2", "release 1", params=(Change("train.[bold]C", 1.0, "[red]x"),), notes=("A [note].",),
                  cells=(CellChange("train", 2, "changed", " a\n-[b]\n+c[/b]"),))
PAIR = tuple(Subject(f"release {version}", "toy", version, None, {}, {}, (), lambda path: None) for version in (1, 2))


@pytest.mark.parametrize("form", Form)
def test_each_form_holds_what_changed(form):
    text = render_form("toy", PAIR, CHANGES, form)
    assert "[b]" in text.replace("&#91;", "[").replace("&#93;", "]")
    assert "release 2" in text
    if form == Form.json:
        assert json.loads(text)["params"] == [{"name": "train.[bold]C", "before": 1.0, "after": "[red]x"}]


def test_brackets_are_no_markup_of_the_terminal(capsys):
    write_changes(get_console(), "toy", CHANGES)
    shown = capsys.readouterr().out
    for text in ("train.[bold]C", "[red]x", "note: A [note].", "  -[b]", "  +c[/b]"):
        assert text in shown


def test_the_first_release_has_nothing_to_be_compared_with(capsys):
    write_changes(get_console(), "toy", Changes("release 1", None))
    assert "There is no champion" in capsys.readouterr().out
