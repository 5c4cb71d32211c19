from types import SimpleNamespace

from cd4ml.cli.options import complete_problem, complete_run


def test_the_tab_key_knows_problems_and_is_silent_elsewhere(root, tmp_path, monkeypatch):
    monkeypatch.chdir(root)
    assert complete_problem("fl") == ["flights"]
    monkeypatch.chdir(tmp_path)
    assert complete_problem("") == []


def test_the_tab_key_knows_the_runs_of_the_problem(root, tmp_path, monkeypatch):
    context = SimpleNamespace(params={"problem": "iris"})
    monkeypatch.chdir(tmp_path)
    assert complete_run(context, "") == []
    monkeypatch.chdir(root)
    monkeypatch.setenv("CD4ML_RUN_STORE", str(tmp_path))
    assert complete_run(context, "") == []
    for run_id in ("20260101-a", "20260102-b", "20260102-c"):
        (tmp_path / "runs/iris" / run_id).mkdir(parents=True)
        (tmp_path / "runs/iris" / run_id / "run.json").touch()
    (tmp_path / "runs/iris/20260103-unfinished").mkdir()
    assert complete_run(context, "20260102") == ["20260102-c", "20260102-b"]
    assert complete_run(SimpleNamespace(params={"problem": "houses"}), "") == []
