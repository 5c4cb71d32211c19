from cd4ml.cli.options import complete_problem


def test_the_tab_key_knows_problems_and_is_silent_elsewhere(root, tmp_path, monkeypatch):
    monkeypatch.chdir(root)
    assert complete_problem("fl") == ["flights"]
    monkeypatch.chdir(tmp_path)
    assert complete_problem("") == []
