"""A secret parameter reaches the notebook, and nothing that is written: every byte is searched, in every guise."""

import base64
import gzip
import hashlib
import html
import io
import json
import signal
import tarfile
import urllib.parse
import zipfile
from pathlib import Path

import pytest
from waiting import wait_until

pytestmark = pytest.mark.slow

TOKEN, KEY = 'tök"n <&> 4711/x?', "key-of-the-shop-0815"


def write_guises(secret: str) -> list[str]:
    inner = f"user:{secret}".encode()
    return [secret, ascii(secret)[1:-1], repr(secret)[1:-1], json.dumps(secret)[1:-1], html.escape(secret),
            json.dumps(json.dumps(secret)[1:-1])[1:-1], html.escape(secret, False),
            json.dumps(html.escape(secret))[1:-1], html.escape(json.dumps(secret, ensure_ascii=False)[1:-1]),
            urllib.parse.quote(secret, safe=""), urllib.parse.quote_plus(secret), secret.encode().hex(),
            base64.b64encode(secret.encode()).decode()[:-4],
            base64.b64encode(inner).decode()[8:-4]]


NEEDLES = [guise.encode() for secret in (TOKEN, KEY) for guise in write_guises(secret)]


def unpack(data: bytes):
    yield data
    if zipfile.is_zipfile(io.BytesIO(data)):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for name in archive.namelist():
                yield from unpack(archive.read(name))
    elif data[:2] == b"\x1f\x8b":
        yield from unpack(gzip.decompress(data))
    elif data[257:262] == b"ustar":
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            for member in archive.getmembers():
                yield from unpack(archive.extractfile(member).read() if member.isfile() else b"")


def search(folder) -> list[str]:
    """Return the files below `folder` that hold a secret."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return [f"{path.relative_to(folder)}: {needle!r}" for path in files for part in unpack(path.read_bytes())
            for needle in NEEDLES if needle in part]


def check_nothing_leaked(bench, *outs: str) -> None:
    assert search(bench.folder) == []
    assert [needle for needle in NEEDLES for out in outs if needle in out.encode()] == []


SHOW = r'''
import base64, html, json, sys, urllib.parse, warnings
from IPython.display import HTML, JSON, display

key = params.key.get_secret_value()
for secret in (token, key):
    print("plain", secret)
    print({"token": secret}, ascii(secret), json.dumps(secret), html.escape(secret))
    print(urllib.parse.quote(secret, safe=""), urllib.parse.quote_plus(secret))
    print(base64.b64encode(secret.encode()).decode(), base64.b64encode(f"user:{secret}".encode()).decode())
    print(secret.encode().hex())
    for letter in secret:
        print(letter, end="", flush=True)
    print()
    for i, letter in enumerate(secret):
        print(letter, end="", flush=True)
        print("-", end="", file=sys.stderr, flush=True)
    warnings.warn(secret)
    display(HTML(f"<b>{html.escape(secret)}</b><!-- {secret} -->"), JSON({"a": [secret]}), metadata={"m": secret})
    display({"text/plain": secret, "application/json": {secret: 1}}, raw=True)
    display({"text/plain": "x"}, raw=True, display_id="one")
    display({"text/plain": secret}, raw=True, display_id="one", update=True)
import hashlib
step.record_value("seen", [hashlib.sha256(one.encode()).hexdigest()[:12] for one in (token, key)])
{"shown": [token, key]}
'''


def add_cell(code: str):
    def change(notebook):
        notebook["cells"].append({"cell_type": "code", "id": "secret", "metadata": {}, "outputs": [],
                                  "execution_count": None, "source": code})

    return change


def replace_cell(code: str):
    def change(notebook):
        notebook["cells"].pop()
        add_cell(code)(notebook)

    return change


def declare_token(notebook):
    cell = next(one for one in notebook["cells"] if "parameters" in one["metadata"].get("tags", ()))
    cell["source"] = [*cell["source"], '\ntoken: str = "${WEATHER_TOKEN}"  # secret: key of the weather service']


@pytest.fixture
def bench(workbench, root):
    """Return a workbench with a package `shop` whose problem iris has a secret of both kinds."""
    folder = workbench.folder
    (folder / "shop/problems").mkdir(parents=True)
    (folder / "shop/__init__.py").touch()
    (folder / "shop/problems/__init__.py").touch()
    code = (root / "cd4ml/problems/iris.py").read_text().replace("from ..", "from cd4ml.")
    field = '    key: SecretStr = SecretStr("${SHOP_KEY}")\n    """Key of the shop."""\n'
    code = code.replace("    max_iter: int", f"{field}    max_iter: int")
    code = code.replace("from pydantic import Field", "from pydantic import Field, SecretStr")
    (folder / "shop/problems/iris.py").write_text(code)
    (folder / "pyproject.toml").write_text('[project]\nname = "shop"\n')
    workbench.environ |= {"PYTHONPATH": str(folder), "WEATHER_TOKEN": TOKEN, "SHOP_KEY": KEY}
    workbench.edit_notebook("train", declare_token)
    workbench.edit_notebook("train", add_cell(SHOW))
    return workbench


def read_seen(run) -> list[str]:
    results = [one for step in run["steps"]
               for one in json.loads((Path(step["folder"]) / "results.json").read_text())["results"]]
    return next(one["value"] for one in results if one["name"] == "seen")


def test_the_search_finds_what_is_planted(tmp_path):
    (tmp_path / "plain.txt").write_text(f"x {KEY} y")
    assert len(search(tmp_path)) >= 1
    (tmp_path / "plain.txt").write_text("nothing")
    assert search(tmp_path) == []
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("in.json", json.dumps([TOKEN]) * 20)
    assert search(tmp_path)
    (tmp_path / "a.zip").unlink()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        archive.add(tmp_path / "plain.txt", "first")
        (tmp_path / "plain.txt").write_text(base64.b64encode(f"user:{TOKEN}".encode()).decode())
        archive.add(tmp_path / "plain.txt", "second")
    (tmp_path / "plain.txt").write_bytes(packed.getvalue())
    assert search(tmp_path)


@pytest.mark.parametrize("way", ["cells", "kernel", "ordinary"])
def test_a_run_knows_its_secrets_and_keeps_none(bench, way):
    bench.environ["CD4ML_KERNELS"] = way
    code, out, err = bench.call("run", "iris", "--json")
    assert code == 0, err
    assert read_seen(json.loads(out)) == [hashlib.sha256(one.encode()).hexdigest()[:12] for one in (TOKEN, KEY)]
    check_nothing_leaked(bench, out, err)
    executed = next(bench.folder.glob(".cd4ml/runs/iris/*/train.ipynb")).read_text()
    assert 'token = os.environ[\\"WEATHER_TOKEN\\"]' in executed
    assert "plain •••" in executed

    for fault in ('raise ValueError(f"no good: {token}", [params.key.get_secret_value()])',
                  "import os, sys\nsys.stderr.write(token); os.write(2, token.encode()); os._exit(3)",
                  'open("left.txt", "w").write(token); print(token); step.record_value("bad", [token])',
                  'open("left.txt", "w").write(token)'):
        bench.edit_notebook("train", replace_cell(fault))
        code, out, err = bench.call("run", "iris", "--json")
        assert code == 2, fault
        assert "train" in json.loads(out)["what"]
        check_nothing_leaked(bench, out, err)


def test_an_interrupted_notebook_keeps_none(bench):
    code = "import time; print(token, flush=True); open('on', 'w').close(); time.sleep(60)"
    bench.edit_notebook("train", replace_cell(code))
    process = bench.start("run", "iris")
    wait_until(lambda: list(bench.folder.glob(".cd4ml/steps/*.draft/on")), "the cell")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "•••" in next(bench.folder.glob(".cd4ml/runs/iris/*/train.ipynb")).read_text()
    check_nothing_leaked(bench, out, err)


def test_a_release_its_site_and_a_sweep_keep_none(bench):
    done = [bench.call("release", "iris", "--json"), bench.call("site"),
            bench.call("params", "iris"), bench.call("params", "iris", "--schema"),
            bench.call("sweep", "iris", "-p", "train.token='${WEATHER_TOKEN}','${SHOP_KEY}'", "--json")]
    assert [code for code, _, _ in done] == [0] * len(done), [err for _, _, err in done]
    assert "${WEATHER_TOKEN} (secret)" in done[2][1]
    assert '"writeOnly": true' in done[3][1]
    assert len(json.loads(done[-1][1])["variants"]) == 2
    check_nothing_leaked(bench, *(text for _, out, err in done for text in (out, err)))


def test_a_value_in_a_file_or_an_override_is_refused_and_not_repeated(bench):
    for name in ("token", "key"):
        code, out, err = bench.call("run", "iris", "-p", f"train.{name}={KEY}", "--json")
        assert code == 2
        assert "such as ${NAME}" in out
        assert KEY not in out + err
    path = bench.folder / "params/iris/default.yaml"
    path.write_text(f"train:\n  key: {KEY}\n")
    code, out, err = bench.call("run", "iris")
    assert code == 2
    assert "params/iris/default.yaml:2" in err
    assert KEY not in out + err
    assert not (bench.folder / ".cd4ml/steps").exists()


def test_all_missing_variables_are_named_before_anything_runs(bench):
    del bench.environ["WEATHER_TOKEN"]
    bench.environ["SHOP_KEY"] = ""
    for words in (("run", "iris"), ("sweep", "iris", "-p", "train.C=1,2")):
        code, _, err = bench.call(*words)
        assert code == 2
        assert "Secrets are not set: SHOP_KEY, WEATHER_TOKEN" in err
        assert not list(bench.folder.glob(".cd4ml/steps/*.draft"))
        assert not list(bench.folder.glob(".cd4ml/steps/*/*.ipynb"))


@pytest.mark.parametrize("record", [
    'step.record_frame("bad", __import__("pandas").DataFrame({"a": [1], "b": [token]}))',
    'step.record_file("bad", token.encode(), ".txt")',
    'model.note = token; step.record_model("bad", model)',
])
def test_a_result_that_holds_a_secret_is_refused(bench, record):
    bench.edit_notebook("train", replace_cell(record))
    error = bench.call_json("run", "iris", code=2)
    assert "The result 'bad' holds a secret" in error["got"]
    check_nothing_leaked(bench, json.dumps(error, ensure_ascii=False))
