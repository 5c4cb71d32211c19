"""The documents say what is so: commands exist, files are there, and every command is documented."""

import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "cd4ml/pages/README.md")]
ALL = "\n".join(page.read_text() for page in PAGES)


def find_commands():
    """Return the commands of the command line by their words."""
    import typer

    from cd4ml.cli.main import app

    root = typer.main.get_command(app)
    found = {}
    for name, command in root.commands.items():
        found |= {(name, sub): one for sub, one in getattr(command, "commands", {}).items()} or {(name,): command}
    return found


def find_uses():
    """Return every `cd4ml …` in the documents as words."""
    spans = re.findall(r"`(cd4ml [^`\n]+)`", ALL)
    return [shlex.split(span)[1:] for span in spans if "…" not in span and "PROBLEM" not in span]


@pytest.mark.parametrize("words", find_uses(), ids=" ".join)
def test_a_command_in_the_documents_exists_with_its_options(words):
    commands = find_commands()
    name = tuple(words[:2]) if tuple(words[:2]) in commands else tuple(words[:1])
    if words[0].startswith("--"):
        return
    known = {names[0] for names in commands}
    assert words[0] in known, f"unknown command {words[0]}"
    parameters = commands[name].params if name in commands else []
    options = {option for parameter in parameters for option in parameter.opts}
    for word in words:
        if word.startswith("-") and name != ("lab",):
            assert word.split("=")[0] in options | {"--help"}, f"{' '.join(words)}: unknown option {word}"


@pytest.mark.parametrize("words", find_commands(), ids=" ".join)
def test_every_command_is_documented_and_shows_an_example(words):
    command = find_commands()[words]
    assert "Example" in command.help
    if words[0] not in ("data",):
        assert f"cd4ml {words[0]}" in ALL


def test_make_targets_in_the_documents_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for target in re.findall(r"`make ([a-z-]+)", ALL):
        assert target in targets, f"make {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_pictures_lead_somewhere(page):
    text = page.read_text()
    for target in re.findall(r"\]\(([^)#]+)\)", text) + re.findall(r'src="([^"]+)"', text):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_folders_in_the_readme_are_there():
    for name in ("nbs/steps", "nbs/guide", "params", "ci/stages", "nbs/steps/train.ipynb"):
        assert (ROOT / name).exists()
        assert name.split("/")[0] in (ROOT / "README.md").read_text()


def test_nothing_of_this_machine_is_written_down():
    for page in PAGES:
        assert not re.search(r"/(home|root|tmp|work)/", page.read_text()), page.name


def list_helps():
    """Return what the help of each command says of it and of its parameters."""
    return [(" ".join(name), text or "") for name, command in find_commands().items()
            for text in (command.help, *(getattr(one, "help", "") for one in command.params))]


def test_nothing_in_a_help_is_taken_for_markup_and_left_out():
    from rich.text import Text

    lost = [(name, text) for name, text in list_helps() if Text.from_markup(text).plain != text]
    assert not lost, "words in square brackets that nobody gets to see"
