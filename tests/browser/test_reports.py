"""Nothing that a notebook shows is run, or loaded from elsewhere, by whoever opens its report."""

from nbformat import v4

from cd4ml.delivery.report import render_notebook

SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><circle r="4"/></svg>'
BAD = ("<script>document.title = 'run'</script><img src=x onerror=\"document.title = 'run'\">"
       "<a id=link href=\"javascript:document.title = 'run'\">a link</a><img src='http://127.0.0.1:9/x.png'>")


def test_nothing_that_an_output_or_a_text_brings_is_run_or_loaded(tmp_path, browser):
    shown = {"text/html": BAD, "image/svg+xml": SVG}.items()
    outputs = [v4.new_output("display_data", {kind: data}) for kind, data in shown]
    cells = [v4.new_markdown_cell(f"# A title\n\n{BAD}"), v4.new_code_cell("show()", outputs=outputs)]
    (tmp_path / "page.html").write_text(render_notebook(v4.new_notebook(cells=cells)))
    page, failed = browser.new_page(), []
    page.on("requestfailed", lambda request: failed.append(request.failure))
    page.goto((tmp_path / "page.html").as_uri())
    for link in page.query_selector_all("#link"):
        link.evaluate("one => one.click()")
    assert page.title() == "A title"
    assert failed == ["csp"] * 4
    seen = page.evaluate("[...document.images].filter(one => one.naturalWidth).map(one => one.src.slice(0, 14))")
    assert seen == ["data:image/svg"]
    assert page.evaluate("getComputedStyle(document.querySelector('main')).maxWidth") != "none", "it has its styles"
