"""Pages are made again only if something changed, and a record that was tampered with harms nothing else."""

import json

import pytest

from cd4ml.delivery.pages import RECORD, embed_json, hash_code, open_build


def build(site, contents, code="c"):
    """Build pages of these contents by name, each with a file that all share."""
    made = open_build(site, code)
    for page, content in contents.items():
        if not made.is_fresh(page, content):
            made.keep(page, content, {page: content.encode(), "shared.txt": b"shared"}, [content] * ("!" in content))
    made.clear()
    return made


def test_only_what_changed_is_made(tmp_path):
    assert build(tmp_path, {"a/x.html": "1", "b.html": "1"}).made == ["a/x.html", "b.html"]
    assert build(tmp_path, {"a/x.html": "1", "b.html": "1"}).made == []
    assert build(tmp_path, {"a/x.html": "1", "b.html": "2"}).made == ["b.html"]
    assert build(tmp_path, {"a/x.html": "1", "b.html": "2"}, "other code").made == ["a/x.html", "b.html"]


def test_what_nobody_wants_is_removed_with_its_folder_and_what_is_shared_stays(tmp_path):
    build(tmp_path, {"a/x.html": "1", "b.html": "1"})
    (tmp_path / "own.txt").write_text("of somebody else")
    assert build(tmp_path, {"b.html": "1"}).removed == ["a/x.html"]
    assert {path.name for path in tmp_path.iterdir()} == {"b.html", "shared.txt", "own.txt", RECORD}
    build(tmp_path, {})
    assert {path.name for path in tmp_path.iterdir()} == {"own.txt", RECORD}


def test_a_file_that_a_page_no_longer_has_is_removed(tmp_path):
    made = open_build(tmp_path, "c")
    made.is_fresh("x", 1)
    made.keep("x", 1, {"x": b"1", "y": b"1"})
    made.clear()
    made = open_build(tmp_path, "c")
    assert not made.is_fresh("x", 2)
    made.keep("x", 2, {"x": b"2"})
    made.clear()
    assert not (tmp_path / "y").exists()


def test_faults_are_remembered_with_the_page(tmp_path):
    build(tmp_path, {"a": "!"})
    assert build(tmp_path, {"a": "!"}).pages["a"]["faults"] == ["!"]


@pytest.mark.parametrize("path", ["../outside.txt", "a/../../outside.txt", "/etc/hostname", "."])
def test_a_record_that_was_tampered_with_removes_nothing_elsewhere(tmp_path, path):
    site, outside = tmp_path / "site", tmp_path / "outside.txt"
    outside.write_text("stays")
    site.mkdir()
    record = {"format": 1, "pages": {"x": {"inputs": "", "files": [path], "faults": []}}}
    (site / RECORD).write_text(json.dumps(record))
    build(site, {})
    assert outside.read_text() == "stays"
    assert site.is_dir()


def test_json_in_a_page_stays_json():
    data = {"a": "</script><!--", "b": "ü\u2028", "c": [1, None]}
    text = str(embed_json(data))
    assert json.loads(text) == data
    assert "<" not in text


def test_the_hash_of_code_knows_names_and_contents(tmp_path):
    (tmp_path / "a.py").write_text("1")
    first = hash_code(tmp_path)
    (tmp_path / "notes.txt").write_text("2")
    assert hash_code(tmp_path) == first
    (tmp_path / "a.py").rename(tmp_path / "b.py")
    assert hash_code(tmp_path) != first
