"""A step notebook that is run as it stands, as in JupyterLab, sees what an order would give it."""

import json
import os

import nbformat
import pytest
from nbclient import NotebookClient


@pytest.mark.slow
def test_an_evaluation_by_hand_judges_beside_the_champion(workbench, monkeypatch):
    assert workbench.call_json("release", "iris")["promoted"]
    parameters = workbench.folder / "params" / "iris" / "default.yaml"
    parameters.write_text(parameters.read_text().replace("C: 1.0", "C: 0.9"))  # another model than the champion
    path = workbench.folder / "nbs" / "steps" / "evaluate.ipynb"
    notebook = nbformat.read(path, as_version=4)
    first = notebook.cells[1]
    first.source = first.source.replace('"flights"', '"iris"').replace('"roc_auc"', '"accuracy"')
    for name, value in workbench.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(workbench.folder)
    client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(path.parent)}})
    client.execute(env=dict(os.environ))
    told = json.dumps([cell.outputs for cell in notebook.cells if cell.cell_type == "code"])
    assert "beside: dummy, champion" in told
    assert "There is no champion yet" not in told
    results = json.loads((workbench.folder / ".cd4ml/interactive/iris/evaluate/results.json").read_text())["results"]
    assert "decision" in [one["name"] for one in results]
