"""Pages inside a page: whatever a notebook shows, nothing after it is swallowed and no id is there twice."""

import re

import pytest

from cd4ml.delivery.excerpt import excerpt_page


def check(page, name="x", level=2):
    return excerpt_page(f"<html><body><main>{page}</main></body></html>", name, level).html


@pytest.mark.parametrize(("page", "expected"), [
    ("<div><details><p>open", "<div><details><p>open</details></div>"),
    ("closed</div></section></main></body>", "closed"),
    ("<table><tr><td>1<td>2<tr><td>3</table>", "<table><tr><td>1<td>2<tr><td>3</table>"),
    ("<div/>text", "<div/>text</div>"),
    ("<svg><g><path d='M0'/></svg>", "<svg><g><path d='M0'/></g></svg>"),
    ("<p>1<br>2<img alt='a' src='data:,'/>", "<p>1<br>2<img alt='a' src='data:,'/>"),
    ("a & b &amp; &lt; &#182; &nbsp; 1 < 2", "a & b &amp; &lt; &#182; &nbsp; 1 < 2"),
    ("<!-- <div> -->x", "x"),
    ("<b><i>1</b></i>2", "<b><i>1</i></b>2"),
    ("<link rel=stylesheet href=x><meta charset=x><base href=y>z", "z"),
    ("<html><body class=x><h1>t</h1></body></html>", "<h2>t</h2>"),
])
def test_tags_are_balanced_and_the_rest_is_left_alone(page, expected):
    assert check(page) == expected


@pytest.mark.parametrize("script", ["<script>alert(1)</script>", '<SCRIPT src="x">"<div>"</SCRIPT>', "<script>a < b"])
def test_no_script_is_taken_over(script):
    assert check(f"before {script}") == "before"
    assert check("1<script>'<h1 id=a>'</script>2") == "12"


def test_svg_keeps_the_case_of_its_tags_and_attributes():
    drawing = '<svg viewBox="0 0 1 1"><linearGradient id="g"/><rect fill="url(#g)"/><use xlink:href="#g"/></svg>'
    assert check(drawing) == (
        '<svg viewBox="0 0 1 1"><linearGradient id="x-drawing1-g"/><rect fill="url(#x-drawing1-g)"/>'
        '<use xlink:href="#x-drawing1-g"/></svg>')


def test_references_follow_their_ids_wherever_they_stand():
    page = ('<style>#T_1 td, #T_1 .a {color: #fff}</style><table id="T_1"><tr><td headers="h T_1">1</table>'
            '<label for=\'in\'>a</label><input id=in style="mask: url(\'#T_1\')"><a href="#nowhere">b</a>')
    assert check(page) == (
        '<style>#x-T_1 td, #x-T_1 .a {color: #fff}</style><table id="x-T_1"><tr><td headers="h x-T_1">1</table>'
        '<label for="x-in">a</label><input id="x-in" style="mask: url(&#x27;#x-T_1&#x27;)"><a href="#nowhere">b</a>')


def test_what_only_looks_like_an_id_is_left_alone():
    page = '<p title="id=\'a\' href=#a" data-id="a" id="a">id="a" url(#a)</p>'
    assert check(page) == '<p title="id=\'a\' href=#a" data-id="a" id="x-a">id="a" url(#a)</p>'


def test_ids_are_unique_within_an_excerpt_and_between_two():
    page = "<h1 id='a'>a</h1><h2 id='a'>a</h2><svg><path id='a'/></svg><svg><path id='a'/></svg>"
    ids = re.findall('id="([^"]*)"', check(page, "train") + check(page, "evaluate"))
    assert len(ids) == len(set(ids)) == 8


@pytest.mark.parametrize(("page", "levels"), [
    ("<h1>a</h1><h2>b</h2><h3>c</h3>", "234"), ("<h3>a</h3><h1>b</h1>", "22"),
    ("<h1>a</h1><h4>b</h4><h4>c</h4>", "233"),
    ("<h1>a</h1><h2>a</h2><h3>a</h3><h4>a</h4><h5>a</h5><h6>a</h6>", "234566"), ("<h1>a<h2>b", "23"),
    ("<h1>a</h1><h3>b</h3><h2>c</h2><h3>d</h3>", "2334")])
def test_headings_are_lowered_and_none_is_skipped(page, levels):
    html = check(page)
    assert "".join(re.findall(r"<h(\d)", html)) == levels
    assert sorted(re.findall(r"<h(\d)", html)) == sorted(re.findall(r"</h(\d)", html))


def test_headings_are_listed_with_their_words():
    page = '<h1 id="a">A &lt; <em>B</em><a class="anchor-link" href="#a">&#182;</a></h1><h2 id="a">C</h2>'
    first, second = excerpt_page(page, "x").headings
    assert (first.level, first.id, first.words) == (2, "x-a", "A < B")
    assert (second.level, second.id, second.words) == (3, "x-a-2", "C")


@pytest.mark.parametrize("page", [
    '<p class="a &lt; b" hidden>1 &amp; 2</p>', "<p a='1'>x", "<P ID=a>x</P>", "a < b", "<style>a > b {}</style>c",
    "<style scoped>p {}</style>", "<svg><title>a</title></svg>", "<title><b></title></b>", "<style><b></style></b>",
    "<script>'<p>'</script>x", "<script src=a></script>", "<svg/>", "<!-- <p> -->x", "<!--> <p> -->x",
    "<!doctype html><p>x", "<![CDATA[ x ]]>", "<textarea><p></textarea>", '<a href="x?a=1&b=2">y</a>',
    '<p title="a>b">c', "<p/ id=a>x", "</p >x", "</>x", "<1>x", "<p", '<p id="a" id="b">', "",
    '<svg id="a"><style type="text/css">*{b: c}</style><g id="b" style="clip-path: url(#a)"/><use href="#b"/></svg>',
    '<svg><g id="a"/><g id="a"/></svg><svg><text title="a > b">id="a" > #a</text><g id="a"/></svg><a href="#a">b</a>',
    "<svg><style>#a {}</style><g id='a'/></svg>", '<svg><style>*{}</style><style>#a {}</style><g id="a"/></svg>',
    "<svg><text>&nbsp;</text></svg>", "<svg><!-- <g> --><g/></svg>x", "<svg><svg></svg><g/></svg><p>x",
    "<svg><!--><script>a</script>--></svg>", "<svg><script>a</script></svg>", "<svg><g></svg><p>x</p></svg>",
    "<pre><span>a</span> &lt;<span class=\"k\">b</span></pre>", "<pre><span>a</pre>b</span>", "<pre><b>a</b></pre>",
    "<pre></span><span></pre>", "<style><pre>a</pre></style>", '<pre><span id="a">b</span></pre><a href="#a">c</a>',
    "<style><svg></svg></style>", "<h1>a<svg><path/></svg></h1>", '<svg><a href="#b"/></svg><p id="b">c'])
def test_the_quick_way_gives_what_the_parser_gives(page, monkeypatch):
    from cd4ml.delivery import excerpt

    quick = excerpt.excerpt_page(page, "x")
    monkeypatch.setattr(excerpt, "_read_plain", lambda page: None)
    assert excerpt.excerpt_page(page, "x") == quick
