"""The parameters files, their schemas and the step notebooks say the same as the problems themselves."""

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from cd4ml.base.params import RESERVED, read_declared, write_schema
from cd4ml.base.settings import load_settings
from cd4ml.delivery.steps import read_problem_schema, resolve_problem_params
from cd4ml.model.problem import ActParams, Params, find_problem, list_problems
from cd4ml.model.rules import Rule, parse_rules

ROOT = Path(__file__).resolve().parents[3]
FILES = sorted((ROOT / "params").glob("*/*.yaml"))
NOTEBOOKS = {step: ROOT / "nbs" / "steps" / f"{step}.ipynb" for step in Params.model_fields}


@pytest.fixture(scope="module")
def settings():
    return load_settings(ROOT)


def test_every_problem_has_a_default_and_every_folder_a_problem():
    assert {path.parent.name for path in FILES} == set(list_problems())
    assert {path.parent.name for path in FILES if path.name == "default.yaml"} == set(list_problems())


@pytest.mark.parametrize("problem", list_problems())
def test_the_schema_is_up_to_date(settings, problem):
    text = write_schema(read_problem_schema(settings, find_problem(problem)), problem, {"rules": Rule})
    found = ROOT / "params" / problem / "schema.json"
    assert found.read_text(encoding="utf-8") == text, f"cd4ml params {problem} --schema > params/{problem}/schema.json"


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_variant_resolves_and_names_its_schema(settings, path):
    resolved = resolve_problem_params(settings, find_problem(path.parent.name), path.stem)
    assert set(resolved.steps) == set(Params.model_fields)
    assert path.read_text(encoding="utf-8").startswith("# yaml-language-server: $schema=schema.json\n")


@pytest.mark.parametrize("step", ["prepare", "train"])
@pytest.mark.parametrize("problem", list_problems())
def test_default_yaml_repeats_the_built_in_defaults(settings, problem, step):
    """Whoever calls the problem's functions in a notebook gets the rows and the model that production gets."""
    values = dict(resolve_problem_params(settings, find_problem(problem)).steps[step])
    section = find_problem(problem).params.model_fields[step].annotation
    built_in = section().model_dump(mode="json")
    assert values | {"rules": built_in.get("rules")} == built_in | {"rules": built_in.get("rules")}  # they judge, only


@pytest.mark.parametrize("step", Params.model_fields)
def test_a_step_notebook_has_the_defaults_of_its_section(step):
    section = Params.model_fields[step].annotation().model_dump(mode="json")
    declared = {name: one.default for name, one in read_declared(NOTEBOOKS[step]).items() if name not in RESERVED}
    assert set(declared) == set(section) - set(ActParams.model_fields)  # what is done comes after the notebook
    declared.pop("rules", None)  # no rule suits every problem: see below
    assert {name: section[name] for name in declared} == declared


@pytest.mark.parametrize("step", Params.model_fields)
def test_a_step_notebook_opens_with_a_problem_that_exists_and_no_options(step):
    declared = read_declared(NOTEBOOKS[step])
    assert declared["problem"].default in list_problems()
    assert declared["options"].default == {}


def test_the_rules_that_the_evaluation_opens_with_are_rules_of_its_problem():
    declared = read_declared(NOTEBOOKS["evaluate"])
    problem, rules = declared["problem"].default, declared["rules"].default
    assert parse_rules(rules, find_problem(problem).task)
    default = YAML(typ="safe").load(ROOT / "params" / problem / "default.yaml")
    assert all(rule in default["evaluate"]["rules"] for rule in rules)
