"""Every kind of output on a page that needs nothing beyond itself."""

import base64
import re

import pytest
from nbformat import v4

from cd4ml.delivery.report import find_title, format_facts, render_notebook

PNG = base64.b64encode(base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")).decode()
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><title>a dot</title><circle r="4"/></svg>'


def make_page(*outputs, tags=(), words="# A title\n\n> One sentence.", source="fit(rows)"):
    cell = v4.new_code_cell(source, outputs=list(outputs), metadata={"tags": list(tags)}, id="code")
    notebook = v4.new_notebook(cells=[v4.new_markdown_cell(words, id="words"), cell])
    return render_notebook(notebook, "shop · train")


def show(**data):
    return v4.new_output("display_data", data={key.replace("_", "/", 1).replace("svg", "svg+xml"): value
                                               for key, value in data.items()})


ERROR = v4.new_output("error", ename="ValueError", evalue="no such month",
                      traceback=["\x1b[31mValueError\x1b[0m: no such month <13>"])


def test_the_same_notebook_gives_the_same_bytes():
    outputs = (show(image_svg=SVG), show(image_png=PNG), ERROR)
    assert make_page(*outputs) == make_page(*outputs)


def test_a_page_has_no_script_and_loads_nothing():
    page = make_page(show(image_svg=SVG), show(image_png=PNG), show(text_html="<table><tr><td>1</td></tr></table>"),
                     v4.new_output("stream", name="stdout", text="\x1b[32mgood\x1b[0m"), ERROR,
                     words="# A title\n\nSee [the docs](https://example.org/x) and $x^2$.")
    assert "<script" not in page
    loaded = re.findall(r"""(?:src|srcset|data)\s*=\s*["']?(?!data:|attachment:)([^"'\s>]+)""", page)
    assert not loaded
    assert not re.findall(r"<link\b|@import|url\((?!['\"]?data:)", page)


def test_each_output_is_shown_in_its_best_form():
    page = make_page(show(text_plain="<Figure>", image_svg=SVG), show(text_plain="<Image>", image_png=PNG),
                     show(text_plain="a  b", text_html="<table><tr><td>cell</td></tr></table>"),
                     show(text_markdown="**bold** words"), show(text_plain="a < b"))
    assert f"data:image/svg+xml;base64,{base64.b64encode(SVG.encode()).decode()}" in page
    assert f"data:image/png;base64,{PNG}" in page.replace("\n", "")
    assert "<td>cell</td>" in page
    assert "<strong>bold</strong>" in page
    assert "a &lt; b" in page
    assert "&lt;Figure&gt;" not in page


def test_a_failed_cell_is_open_and_marked():
    page = make_page(ERROR)
    assert 'class="cell failed"' in page
    assert re.search(r'<details class="code" open', page)
    assert "no such month &lt;13&gt;" in page
    assert "\x1b" not in page
    assert 'class="cell failed"' not in make_page()


def test_colours_of_a_terminal_become_colours_of_the_page():
    page = make_page(v4.new_output("stream", name="stderr", text="\x1b[1;31mwarned\x1b[0m & done"))
    assert '<pre class="stderr">' in page
    assert "warned" in page
    assert "ansi-red" in page
    assert "&amp; done" in page
    assert "\x1b" not in page


@pytest.mark.parametrize(("tag", "summary"), [("parameters", "default parameters"),
                                              ("injected-parameters", "parameters of this run")])
def test_parameters_are_called_by_their_name(tag, summary):
    assert f"<summary>{summary}</summary>" in make_page(tags=[tag])


def test_what_stands_in_code_and_titles_is_escaped():
    page = make_page(words="# <script>alert(1)</script>", source="'<script>alert(2)</script>'")
    assert "<script>alert(2)" not in page
    title = re.search(r"<title>(.*?)</title>", page)
    assert title
    assert "<script" not in title[1]


def test_a_notebook_without_a_title_or_cells_is_a_page():
    assert find_title(v4.new_notebook(cells=[])) == "Notebook"
    assert "</html>" in render_notebook(v4.new_notebook(cells=[]))


def test_facts_are_escaped_and_empty_ones_left_out():
    facts = format_facts({"who": "<ada>", "why": "", "when": None, "how many": 0})
    assert facts == "<dl><dt>who</dt><dd>&lt;ada&gt;</dd><dt>how many</dt><dd>0</dd></dl>"


def test_code_is_coloured_in_its_own_language():
    cell = v4.new_code_cell("if (TRUE) x <- 1")
    notebook = v4.new_notebook(cells=[cell], metadata={"language_info": {"name": "R", "pygments_lexer": "r"}})
    assert '<span class="o">&lt;-</span>' in render_notebook(notebook)
    cell.metadata["magics_language"] = "nobody speaks this"
    assert "if (TRUE) x &lt;- 1" in render_notebook(notebook)


def test_every_image_says_something_to_those_who_do_not_see_it():
    described = show(text_html='<img src="data:," alt="a chart">')
    page = make_page(show(image_png=PNG), described)
    assert re.findall(r'<img[^>]*alt="([^"]*)"', page) == ["a picture without a description", "a chart"]
    assert page.count("<img") == 2


def test_a_widget_is_shown_by_what_can_be_read_without_it():
    view = {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}, "text/plain": "IntSlider(value=3)"}
    assert "IntSlider(value=3)" in make_page(v4.new_output("display_data", data=view))
