"""Figures find their partners by title, and nothing of a report acts in the page that shows it."""

import re
from dataclasses import replace

import pytest

from cd4ml.delivery.changes import Change, Changes
from cd4ml.delivery.comparison import Subject
from cd4ml.delivery.comparison_page import list_figures, make_comparison_page, pair_figures


def draw(title, more=""):
    return f'<figure><svg><text style="font: 700 12px x">{title}</text><path id="p"/>{more}</svg></figure>'


def take(page, version=1):
    files = {"reports/evaluate.html": page.encode()}
    return Subject(f"release {version}", "toy", version, None, {}, {}, (), files.get)


@pytest.mark.parametrize(("page", "titles"), [
    (draw("A") + draw("A"), ["A", "A (2)"]),
    (draw("A", '<text style="font-weight: 700; font-size: 9px; x">part</text>'), ["A"]),
    ("<h2>B &amp; C¶</h2><img src='data:,'>", ["B & C"]),
    ("<svg><path/></svg>", ["Figure"]), ("<table><tr><td><svg/><img></table>", []), ("", []),
    ("<h3>D</h3><figure><img alt='x'></figure><h3>E</h3><svg></svg>", ["D", "E"]), ("<figure>never closed", [])])
def test_a_figure_is_known_by_its_title(page, titles):
    assert list(list_figures(page)) == titles


def test_figures_are_paired_by_title():
    pairs = pair_figures(take(draw("A") + draw("B") + draw("C")), take(draw("B", "<g/>") + draw("D") + draw("C"), 2))
    told = [(one.title, one.before is not None, one.after is not None, one.is_same) for one in pairs]
    assert told == [("B", True, True, False), ("D", False, True, False), ("C", True, True, True),
                    ("A", True, False, False)]


def test_ids_are_unique_and_no_script_is_taken_over():
    page = draw("A", "<script>alert(1)</script>") + "<figure><script src=x></script><div><b>open</figure>"
    pair = (take(page), take(page.replace("open", "other"), 2))
    shown = make_comparison_page(pair, Changes("release 2", "release 1"), "Toy").decode()
    ids = re.findall(r'\bid="([^"]*)"', shown)
    assert len(ids) == len(set(ids))
    assert "<script" not in shown


def test_what_is_shown_is_escaped_and_a_report_that_is_missing_is_said():
    evil = "<script>alert('&')</script>"
    nothing = replace(take(""), read=lambda path: None)
    changes = Changes("release 2", "release 1", Change("decision", None, {"status": "fail", "reason": evil}),
                      (Change(evil, None, None),))
    page = make_comparison_page((nothing, replace(nothing, name="release 2")), changes, evil).decode()
    assert "<script" not in page
    assert "Neither of the two has an evaluation report with figures." in page
    assert "not judged" in page
    assert "href=\"../" not in page, "alone, it leads nowhere"
