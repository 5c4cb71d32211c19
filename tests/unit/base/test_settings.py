import re

import pytest

from cd4ml.base.errors import SettingsError
from cd4ml.base.settings import KEYS, OPTIONS, load_settings

DEFAULTS = "\n".join(["[DEFAULT]", *(f"{key} = .cd4ml/{key}" for key in KEYS), "[local]", "[staging]",
                      "release_store = s3://${BUCKET}/releases", ""])


@pytest.fixture
def bench(tmp_path):
    """Return a folder with a settings.ini."""
    (tmp_path / "settings.ini").write_text(DEFAULTS)
    return tmp_path


def test_it_is_found_from_any_folder_below(bench):
    below = bench / "nbs" / "steps"
    below.mkdir(parents=True)
    settings = load_settings(below, environ={})
    assert (settings.root, settings.environment, settings.package) == (bench, "local", "cd4ml")
    assert settings.data_store == str(bench / ".cd4ml/data_store")


def test_an_environment_fills_in_what_only_the_machine_knows(bench):
    environ = {"CD4ML_ENV": "staging", "BUCKET": "shop", "CD4ML_SITE": "s3://pages"}
    settings = load_settings(bench, environ=environ)
    assert settings.release_store == "s3://shop/releases"
    assert settings.site == "s3://pages"


@pytest.mark.parametrize(("text", "environ", "message"), [
    (DEFAULTS, {"CD4ML_ENV": "stagin"}, "Did you mean 'staging'?"),
    (DEFAULTS, {"CD4ML_ENV": "staging"}, "needs the environment variable BUCKET"),
    (DEFAULTS + "trackin_uri = x\n", {}, "Unknown key 'trackin_uri' (settings.ini [staging]). Did you mean 'tracking"),
    ("[local]\n", {}, "settings.ini lacks keys"),
    ("tracking_uri = x\n", {}, "settings.ini cannot be read"),
    (DEFAULTS, {"CD4ML_RELEASES_STORE": "x"}, "Did you mean 'CD4ML_RELEASE_STORE'?"),
])
def test_what_is_wrong_is_named(bench, text, environ, message):
    (bench / "settings.ini").write_text(text)
    with pytest.raises(SettingsError) as caught:
        load_settings(bench, environ=environ)
    assert message in str(caught.value)


@pytest.mark.parametrize(("name", "meant"), [
    ("CD4ML_RELEASE_STOR", "CD4ML_RELEASE_STORE"), ("CD4ML_RUNSTORE", "CD4ML_RUN_STORE"),
    ("CD4ML_API_KEY", "CD4ML_API_KEYS"), ("CD4ML_KERNEL", "CD4ML_KERNELS"), ("CD4ML_REQUIRE_SIGNATURES",
                                                                          "CD4ML_REQUIRE_SIGNATURE"),
])
def test_a_misspelt_variable_is_refused(bench, name, meant):
    with pytest.raises(SettingsError, match=f"Unknown variable '{name}'.*Did you mean '{meant}'"):
        load_settings(bench, environ={name: "x"})


def test_variables_that_we_read_and_those_that_people_name_are_taken(bench, root):
    code = "".join(path.read_text() for path in [*(root / "cd4ml").rglob("*.py"), root / "tests" / "conftest.py"])
    places = {f"CD4ML_{key.upper()}" for key in (*KEYS, *OPTIONS)}
    for name in {*re.findall(r"\bCD4ML_[A-Z_]*[A-Z]\b", code)} - places | {"CD4ML_MY_TOKEN", "CD4ML_S3_KEY"}:
        load_settings(bench, environ={name: "local" if name == "CD4ML_ENV" else str(bench)})
    own = (bench / "settings.ini").read_text() + "\n[remote]\nrun_store = ${CD4ML_OUR_RUN_STORE}\n"
    (bench / "settings.ini").write_text(own)
    load_settings(bench, environ={"CD4ML_OUR_RUN_STORE": "x"})


def test_the_package_is_the_one_of_the_workbench(bench):
    (bench / "pyproject.toml").write_text('[project]\nname = "my-shop"\n')
    assert load_settings(bench, environ={}).package == "my_shop"


@pytest.mark.parametrize("environ", [{"CD4ML_RELEASE_STORE": ""}, {"CD4ML_ENV": "staging", "BUCKET": ""}])
def test_an_empty_variable_does_not_make_the_workbench_itself_the_store(bench, environ):
    with pytest.raises(SettingsError, match="Got: nothing"):
        load_settings(bench, environ=environ)


@pytest.mark.parametrize("lines", ["site = ${site}", "site = ${run_store}\nrun_store = x/${site}"])
def test_settings_in_a_circle_are_an_error(bench, lines):
    text = DEFAULTS.replace("[staging]", f"{lines}\n[staging]")
    (bench / "settings.ini").write_text(text)
    with pytest.raises(SettingsError, match=r"in a circle.*site"):
        load_settings(bench, environ={})


def test_a_pyproject_that_cannot_be_read_is_named(bench):
    (bench / "pyproject.toml").write_text("[project\n")
    with pytest.raises(SettingsError, match=r"pyproject\.toml cannot be read"):
        load_settings(bench, environ={})


def test_a_password_is_escaped_where_it_is_put_into_an_address(bench):
    path = bench / "settings.ini"
    path.write_text(path.read_text() + "\n[safe]\nprediction_log = postgresql://ada:${PASSWORD}@db/log\n")
    settings = load_settings(bench, "safe", environ={"PASSWORD": "a@b/c?d"})
    assert settings.prediction_log == "postgresql://ada:a%40b%2Fc%3Fd@db/log"
