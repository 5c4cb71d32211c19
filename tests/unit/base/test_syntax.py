"""Code is parsed in any thread, whatever a library does in another one."""

import ast
from typing import Any

import pytest

from cd4ml.base.syntax import parse_code

CODE, MISMATCH = "a = 1", "AST constructor recursion depth mismatch (before=48, after=391)"


@pytest.mark.parametrize(("times", "is_parsed"), [(0, True), (3, True), (1000, False)])
def test_a_parse_that_another_thread_spoilt_is_tried_again(
        monkeypatch: pytest.MonkeyPatch, times: int, is_parsed: bool) -> None:
    parse, spoilt = ast.parse, [MISMATCH] * times

    def parse_badly(source: Any, *how: Any, **more: Any) -> Any:
        if source == CODE and spoilt:
            raise SystemError(spoilt.pop())
        return parse(source, *how, **more)

    monkeypatch.setattr(ast, "parse", parse_badly)
    if is_parsed:
        assert ast.dump(parse_code(CODE)) == ast.dump(parse(CODE))
    else:
        with pytest.raises(SystemError, match="recursion depth"):
            parse_code(CODE)
