"""The house keeps its shape: two kinds of notebook, sizes, words, the order of imports, one owner for each library."""

import ast
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NBS = ROOT / "nbs"
LAYERS = ("base", "data", "model", "delivery", "production", "cli")
NOUNS = sorted(path for folder in (*LAYERS, "problems") for path in (NBS / folder).glob("*.ipynb"))
VERBS = sorted((NBS / "steps").glob("*.ipynb"))
MODULES = sorted(path for path in (ROOT / "cd4ml").rglob("*.py") if path.name not in ("__init__.py", "_modidx.py"))

MODULE_LINES, CELL_LINES, CLASS_CELL_LINES, FUNCTION_LINES, PARAMETERS, STEP_CELLS = 400, 30, 40, 40, 5, 15
BANNED = {"utils", "util", "helpers", "helper", "manager", "handler", "core", "common", "misc", "data2"}
HEAVY = {"azure", "boto3", "botocore", "fastapi", "faststream", "fsspec", "jinja2", "matplotlib", "mlflow", "nbclient",
         "nbconvert", "onnx", "onnxruntime", "opentelemetry", "pandas", "pandera", "papermill", "polars", "psycopg",
         "pyarrow", "pyspark", "scipy", "skl2onnx", "sklearn", "skops", "starlette", "uvicorn"}
OWNERS = {"mlflow": {"delivery.tracking"}, "papermill": {"delivery.execution", "delivery.engine"},
          "pyspark": {"production.spark", "production.arrivals"}, "faststream": {"production.brokers"},
          "jupyter_client": {"delivery.provisioner", "delivery.shell"}, "fastapi": {"production.serving"},
          "starlette": {"production.serving"}, "uvicorn": {"production.serving"},
          "onnx": {"delivery.onnx_graph", "delivery.tree_arrays", "delivery.converters"},
          "psycopg": {"production.postgres"}, "boto3": {"production.cloudwatch"},
          "botocore": {"production.cloudwatch"}, "azure": {"production.telemetry"},
          "opentelemetry": {"production.telemetry"},
          "skl2onnx": {"delivery.converters"}, "onnxruntime": {"delivery.portable"}}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def read_cells(path: Path) -> list[dict]:
    cells = json.loads(path.read_text())["cells"]
    return [cell | {"source": "".join(cell["source"])} for cell in cells]


def code_of(cell: dict) -> str:
    """Return a cell's lines of Python: without nbdev's directives and IPython's magics."""
    return "\n".join(line for line in cell["source"].splitlines() if not re.match(r"\s*(#\||%|!)", line))


def is_export(cell: dict) -> bool:
    return cell["cell_type"] == "code" and bool(re.search(r"^#\|\s*export\b", cell["source"], re.M))


def has_tag(cell: dict, tag: str) -> bool:
    return tag in cell["metadata"].get("tags", [])


def module_of(notebook: Path) -> Path:
    """Return the module that a noun has to export: nbs/model/10_split.ipynb -> cd4ml/model/split.py."""
    folder, stem = notebook.parent.name, re.sub(r"^\d+_", "", notebook.stem)
    return ROOT / "cd4ml" / folder / f"{stem}.py"


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def count_lines(code: str) -> int:
    """Return how many lines there are to read: blank ones between two functions are none."""
    return len([line for line in code.splitlines() if line.strip()])


def functions_of(tree: ast.AST) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


def imports_of(tree: ast.AST, module: Path, *, everywhere: bool) -> list[str]:
    """Return dotted names of what is imported at run time: anywhere, or only while the module itself is imported."""
    names: list[str] = []
    for node in ast.iter_child_nodes(tree):
        if is_type_checking(node):
            continue
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            package = module.relative_to(ROOT).with_suffix("").parts[: -node.level] if node.level else ()
            origin = ".".join([*package, *([node.module] if node.module else [])])
            names += [origin, *(f"{origin}.{alias.name}" for alias in node.names)]
        elif everywhere or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            names += imports_of(node, module, everywhere=everywhere)
    return names


each_noun = pytest.mark.parametrize("path", NOUNS, ids=name_of)
each_verb = pytest.mark.parametrize("path", VERBS, ids=name_of)
each_notebook = pytest.mark.parametrize("path", [*NOUNS, *VERBS], ids=name_of)
each_module = pytest.mark.parametrize("path", MODULES, ids=name_of)


@each_noun
def test_a_noun_exports_the_one_module_that_its_path_names(path: Path) -> None:
    exports = [line.split()[-1] for cell in read_cells(path) for line in cell["source"].splitlines()
               if re.match(r"#\|\s*default_exp\b", line)]
    assert exports == [".".join(module_of(path).relative_to(ROOT / "cd4ml").with_suffix("").parts)]
    assert module_of(path).is_file()
    assert not [cell["id"] for cell in read_cells(path) if re.search(r"^#\|\s*exporti?[ \t]+\S", cell["source"], re.M)]


@each_noun
def test_a_noun_has_no_parameters(path: Path) -> None:
    assert not [cell["id"] for cell in read_cells(path) if has_tag(cell, "parameters")]


@each_noun
def test_a_noun_has_a_number_of_its_own_in_its_folder(path: Path) -> None:
    # Problems know nothing of each other, and so need no order.
    if path.parent.name != "problems":
        number = re.match(r"(\d\d)_", path.name)
        assert number, "NN_name.ipynb"
        assert len(list(path.parent.glob(f"{number[0]}*.ipynb"))) == 1


@each_noun
def test_an_export_cell_fits_on_a_screen(path: Path) -> None:
    """A class cannot be spread over cells, so its cell may be longer; the cell of imports as long as it must."""
    def limit(tree: ast.Module) -> float:
        if all(isinstance(node, ast.Import | ast.ImportFrom | ast.If) for node in tree.body):
            return float("inf")
        return CLASS_CELL_LINES if any(isinstance(node, ast.ClassDef) for node in tree.body) else CELL_LINES

    long = [(cell["id"], lines) for cell in read_cells(path) if is_export(cell)
            if (lines := count_lines(code_of(cell))) > limit(ast.parse(code_of(cell)))]
    assert not long, "cells with too many lines"


@each_verb
def test_a_verb_has_parameters_that_are_annotated_literals(path: Path) -> None:
    cells = [cell for cell in read_cells(path) if has_tag(cell, "parameters")]
    assert len(cells) == 1
    for statement in ast.parse(code_of(cells[0])).body:
        assert isinstance(statement, ast.AnnAssign), ast.unparse(statement)
        assert statement.value is not None, ast.unparse(statement)
        ast.literal_eval(statement.value)


@each_verb
def test_a_verb_is_short_exports_nothing_and_defines_nothing(path: Path) -> None:
    cells = read_cells(path)
    assert len([cell for cell in cells if cell["cell_type"] == "code"]) <= STEP_CELLS
    assert not [cell["id"] for cell in cells if re.search(r"^#\|\s*(export|default_exp)", cell["source"], re.M)]
    trees = [ast.parse(code_of(cell)) for cell in cells if cell["cell_type"] == "code"]
    assert not [node for tree in trees for node in ast.walk(tree)
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)]


@each_notebook
def test_a_notebook_begins_with_its_title_and_one_sentence(path: Path) -> None:
    first = read_cells(path)[0]
    assert first["cell_type"] == "markdown"
    assert re.match(r"# \S.*\n+> \S.*[.?!]\s*$", first["source"]), first["source"]


@each_notebook
def test_outputs_hold_no_error_and_no_address_of_a_machine(path: Path) -> None:
    outputs = [output for cell in read_cells(path) for output in cell.get("outputs", [])]
    assert not [output for output in outputs if output["output_type"] == "error"]
    text = json.dumps([{name: value for name, value in output.items() if name != "image/png"} for output in outputs])
    assert not re.search(r"(/home/|/root/|/tmp/|/Users/|/var/folders/| at 0x[0-9a-f]{6})[^\"\\]{0,40}", text)
    assert str(ROOT) not in text


@each_module
def test_a_module_comes_from_its_notebook(path: Path) -> None:
    header = re.search(r"File to edit: (\S+)\.$", path.read_text(), re.M)
    assert header, "cd4ml/ is exported: write the notebook instead"
    notebook = (path.parent / header[1]).resolve()
    assert notebook in NOUNS
    assert module_of(notebook) == path


@each_module
def test_a_module_stays_readable(path: Path) -> None:
    tree = parse(path)
    assert len(path.read_text().splitlines()) <= MODULE_LINES
    long = {f.name: n for f in functions_of(tree) if (n := f.end_lineno - f.lineno + 1) > FUNCTION_LINES}
    assert not long, f"functions of more than {FUNCTION_LINES} lines"
    if path.parent.name == "cli":  # a command's options are its parameters
        return
    crowded = {f.name: n for f in functions_of(tree) if (n := count_parameters(f)) > PARAMETERS}
    assert not crowded, f"functions of more than {PARAMETERS} parameters: use a frozen dataclass"


def count_parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    names = [a.arg for a in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)]
    # An error's answers are what it is; its constructor names them all.
    return 0 if function.name == "__init__" else len([name for name in names if name not in ("self", "cls")])


@each_module
def test_names_say_what_a_thing_is(path: Path) -> None:
    defined = [node.name for node in ast.walk(parse(path))
               if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)]
    words = {name: re.findall(r"[a-z0-9]+|[A-Z][a-z0-9]*", name) for name in (path.stem, path.parent.name, *defined)}
    assert not {name for name, parts in words.items() if {part.lower() for part in parts} & BANNED}
    assert "process" not in defined


@each_module
def test_a_module_imports_by_name_and_nothing_heavy_at_its_top(path: Path) -> None:
    tree = parse(path)
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.names[0].name == "*"]
    heavy = {name.split(".")[0] for name in imports_of(tree, path, everywhere=False)} & HEAVY
    assert not heavy, "import it inside the function that needs it"


@each_module
def test_each_heavy_library_has_one_owner(path: Path) -> None:
    module = ".".join(path.relative_to(ROOT / "cd4ml").with_suffix("").parts)
    used = {name.split(".")[0] for name in imports_of(parse(path), path, everywhere=True)}
    assert not {library for library in used & OWNERS.keys() if module not in OWNERS[library]}


@each_module
def test_a_module_imports_only_lower_numbers_of_its_folder(path: Path) -> None:
    numbers = {module_of(nb).stem: nb.name for nb in path.parents[1].parent.glob(f"nbs/{path.parent.name}/*.ipynb")}
    folder = f"cd4ml.{path.parent.name}."
    siblings = {name.removeprefix(folder).split(".")[0] for name in imports_of(parse(path), path, everywhere=True)
                if name.startswith(folder)} & numbers.keys()
    if path.parent.name == "problems":
        assert not siblings, "problems know nothing of each other"
    assert not {name for name in siblings if numbers[name] >= numbers[path.stem]}


def test_no_two_modules_of_a_folder_share_a_notebook() -> None:
    assert not [path for path, times in Counter(module_of(nb) for nb in NOUNS).items() if times > 1]


@pytest.mark.parametrize("module", ["cd4ml", "cd4ml.cli.main"])
def test_importing_the_command_line_imports_nothing_heavy(module: str) -> None:
    """Seconds depend on the machine; what is imported does not."""
    if not (ROOT / module.replace(".", "/")).with_suffix(".py").is_file() and module != "cd4ml":
        pytest.fail(f"{module} does not exist")
    code = f"import {module}, sys; print(*sorted({{name.split('.')[0] for name, one in sys.modules.items() if one}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not set(done.stdout.split()) & (HEAVY | {"IPython", "jupyter_client", "numpy"})
