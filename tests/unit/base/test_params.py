import datetime as dt

import pytest
from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from cd4ml.base.errors import ParameterError
from cd4ml.base.params import Declared, build_schema, parse_override, read_variant, resolve_params, write_schema
from cd4ml.base.secrets import SecretReference


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Prepare(Section):
    first: dt.date = dt.date(2013, 1, 1)
    last: dt.date = dt.date(2013, 7, 1)

    @model_validator(mode="after")
    def check_order(self):
        if self.first >= self.last:
            raise ValueError("first must be before last")
        return self


class Train(Section):
    depth: int | None = Field(None, ge=1, description="greatest depth [levels]")
    kind: str = "plain"
    rate: float = Field(0.1, gt=0)


class Sections(BaseModel):
    prepare: Prepare = Prepare()
    train: Train = Train()


STEPS = {"prepare": {}, "train": {"seed": Declared("seed", int, 7, "seed"), "options": Declared("options", dict, {})}}
SCHEMA = build_schema(Sections, STEPS)


@pytest.fixture
def shop(tmp_path):
    """Return a function that writes variants of the problem `shop` and returns their folder."""
    folder = tmp_path / "params" / "shop"
    folder.mkdir(parents=True)

    def write(**files):
        for name, text in files.items():
            (folder / f"{name}.yaml").write_text(text)
        return folder

    write(default="train:\n  depth: 3\n")
    return write


def test_a_chain_of_variants_and_an_override_each_have_the_last_word(shop):
    folder = shop(wide="extends: default\ntrain:\n  rate: 0.5\n", wider="extends: wide\ntrain:\n  rate: 1e-3\n")
    found = resolve_params(SCHEMA, folder, "wider", ["train.depth=9"])
    assert found.steps["train"] == {"depth": 9, "kind": "plain", "rate": 0.001, "seed": 7}
    assert found.sources["train.rate"] == "params/shop/wider.yaml:3"
    assert found.sources["train.depth"] == "-p train.depth=9"
    assert found.sources["train.seed"] == "built-in default"


def test_a_path_is_a_variant_too(shop, tmp_path):
    shop()
    (tmp_path / "mine.yaml").write_text("train:\n  kind: mine\n")
    found = resolve_params(SCHEMA, tmp_path / "params/shop", str(tmp_path / "mine.yaml"))
    assert found.steps["train"]["kind"] == "mine"


@pytest.mark.parametrize(("text", "value"), [("kind: no", "no"), ("kind: 'yes'", "yes"), ("depth:", None),
                                             ("depth: null", None), ("rate: 1e-3", 0.001), ("rate: 2", 2.0)])
def test_yaml_means_what_it_says(shop, text, value):
    folder = shop(default=f"train:\n  {text}\n")
    assert resolve_params(SCHEMA, folder).steps["train"][text.split(":")[0]] == value


def test_dates_are_dates_in_files_and_on_the_command_line(shop):
    folder = shop(default="prepare:\n  last: 2013-09-01\n")
    found = resolve_params(SCHEMA, folder, "default", ["prepare.first=2013-02-01"])
    assert found.steps["prepare"] == {"first": "2013-02-01", "last": "2013-09-01"}


@pytest.mark.parametrize(("files", "message"), [
    ({"default": "train:\n  depth: '6'\n"}, "'depth' of step 'train' (params/shop/default.yaml:2). Expected: a"),
    ({"default": "train:\n  depth: 0\n"}, "greater than or equal to 1. Got: 0. 'depth' is: greatest depth [levels]"),
    ({"default": "train:\n  dept: 1\n"}, ("Unknown parameter 'dept' for step 'train' (params/shop/default.yaml:2). "
                                         "Did you mean 'depth'? Declared: depth, kind, rate, seed")),
    ({"default": "trian:\n  depth: 1\n"}, "Unknown step 'trian' (params/shop/default.yaml:2). Did you mean 'train'?"),
    ({"default": "train:\n  options: {}\n"}, "Unknown parameter 'options'"),
    ({"default": "train: 3\n"}, "'train' is not a section (params/shop/default.yaml:1)"),
    ({"default": "- 3\n"}, "The file has no sections"),
    ({"default": "train:\n  depth: [1\n"}, "The file is not YAML (params/shop/default.yaml:"),
    ({"default": "extends: other\n", "other": "extends: default\n"}, "extend each other in a circle"),
    ({"default": "extends: defualt\n"}, "Unknown variant 'defualt'"),
    ({"default": "prepare:\n  first: 2014-01-01\n"}, ("do not fit together (params/shop/default.yaml). "
                                                     "Got: first must be before last")),
])
def test_what_is_wrong_is_said_with_its_place(shop, files, message):
    with pytest.raises(ParameterError) as caught:
        resolve_params(SCHEMA, shop(**files))
    assert message in str(caught.value)


def test_an_empty_section_or_file_is_all_defaults(shop):
    for text in ("", "train:\n", "# nothing\n"):
        assert resolve_params(SCHEMA, shop(default=text)).steps["train"]["kind"] == "plain"


def test_values_keep_their_types_from_yaml(shop):
    values = read_variant(shop(default="train:\n  depth: 3\n  kind: a\n"), "default")
    assert [type(one.value) for one in values["train"].values()] == [int, str]


@pytest.mark.parametrize("text", ["depth=3", "train.depth", "train.=3", "", "train depth=3"])
def test_an_override_without_step_name_or_value_is_refused(text):
    with pytest.raises(ParameterError, match=r"step\.name=value"):
        parse_override(text)


def test_the_schema_knows_ranges_and_what_the_notebook_adds():
    import json

    schema = json.loads(write_schema(SCHEMA, "shop"))
    train = schema["$defs"]["TrainSection"]["properties"]
    assert train["rate"]["exclusiveMinimum"] == 0
    assert train["seed"]["default"] == 7
    assert "options" not in train
    assert schema["additionalProperties"] is False
    assert "extends" in schema["properties"]


def test_a_name_in_a_file_elsewhere_is_one_of_the_problem(shop, tmp_path):
    folder = shop()
    (tmp_path / "mine.yaml").write_text("extends: default\ntrain:\n  kind: mine\n")
    found = resolve_params(SCHEMA, folder, str(tmp_path / "mine.yaml"))
    assert found.steps["train"] | {"seed": 0} == {"depth": 3, "kind": "mine", "rate": 0.1, "seed": 0}


def test_what_does_not_fit_together_names_every_place_and_does_not_hide_other_faults(shop):
    folder = shop(default="prepare:\n  last: 2013-03-01\ntrain:\n  kind: plain\n")
    overrides = ["prepare.first=2013-06-01", "train.depth=0"]
    with pytest.raises(ParameterError) as caught:
        resolve_params(SCHEMA, folder, "default", overrides)
    assert "2 parameters are wrong" in str(caught.value)
    assert "do not fit together (params/shop/default.yaml, -p prepare.first=2013-06-01)" in str(caught.value)
    assert "'depth' of step 'train' (-p train.depth=0)" in str(caught.value)


class Gate(Section):
    least: int
    rules: list[dict[str, float]] = []


class GateSections(BaseModel):
    gate: Gate


GATE = build_schema(GateSections, {"gate": {}})


def test_a_fault_inside_a_list_is_named_by_its_number(shop):
    folder = shop(default="gate:\n  least: 1\n  rules:\n    - {a: 1.0}\n    - {b: many}\n")
    with pytest.raises(ParameterError, match=r"'rules\[1\]\.b' of step 'gate' \(params/shop/default\.yaml:3\)"):
        resolve_params(GATE, folder)


@pytest.mark.parametrize("text", ["", "gate:\n", "gate:\n  rules: []\n"])
def test_a_value_that_has_no_default_is_asked_for(shop, text):
    with pytest.raises(ParameterError, match="'least' of step 'gate' has no default and is not set"):
        resolve_params(GATE, shop(default=text))


def test_what_a_merge_key_brings_has_the_place_of_its_section(shop):
    folder = shop(default="gate: &g\n  least: 1\n", merged="extends: default\ngate:\n  <<: {least: 2}\n")
    found = resolve_params(GATE, folder, "merged")
    assert found.steps["gate"]["least"] == 2
    assert found.sources["gate.least"].startswith("params/shop/merged.yaml:")


@pytest.mark.parametrize("data", [b"train:\n  kind: \xff\n", b"train:\n  kind: \x01\n"])
def test_a_file_that_is_no_text_is_named(shop, data):
    folder = shop()
    (folder / "default.yaml").write_bytes(data)
    with pytest.raises(ParameterError, match=r"not a text in UTF-8 \(params/shop/default\.yaml\)"):
        resolve_params(SCHEMA, folder)


def test_a_name_given_twice_is_an_error(shop):
    with pytest.raises(ParameterError, match=r"params/shop/default\.yaml:3.*duplicate key"):
        resolve_params(SCHEMA, shop(default="train:\n  depth: 1\n  depth: 2\n"))


class Login(Section):
    key: SecretStr = SecretStr("${SHOP_KEY}")
    needed: SecretStr
    other: SecretStr | None = None
    user: str = "${USER}"


class Shop(BaseModel):
    train: Login


TOKEN = Declared("token", str, "${TOKEN}", "secret: key of the weather service")
GUARDED = build_schema(Shop, {"train": {"token": TOKEN, "user": Declared("user", str, "${ME}", "secret: who")}})
VALID = "train:\n  needed: ${NEEDED}\n  user: ${ME}\n"


def test_secrets_are_references_whichever_way_they_are_marked(shop):
    found = resolve_params(GUARDED, shop(default=VALID), "default", ["train.other='${OTHER}'", "train.key=${KEY}"])
    assert found.steps["train"] == {"key": "${KEY}", "needed": "${NEEDED}", "other": "${OTHER}", "user": "${ME}",
                                    "token": "${TOKEN}"}
    assert {type(value) for value in found.steps["train"].values()} == {SecretReference}
    assert found.descriptions["train.token"] == "key of the weather service"
    assert '"writeOnly": true' in write_schema(GUARDED, "shop")


@pytest.mark.parametrize("override", ["train.key=hunter2-hunter2", "train.token=hunter2", "train.other={hunter2: [",
                                      "train.token='${A} hunter2'", "train.tokne=hunter2"])
def test_the_value_of_a_secret_is_refused_and_not_repeated(shop, override):
    with pytest.raises(ParameterError) as caught:
        resolve_params(GUARDED, shop(default=VALID), "default", [override])
    assert "hunter2" not in f"{caught.value} {caught.value.to_dict()}"
    assert f"-p {override.partition('=')[0]}" in caught.value.where
    with pytest.raises(ParameterError) as caught:
        resolve_params(GUARDED, shop(default=VALID + "  key: hunter2\n  token: 42424242\n"))
    assert "hunter2" not in str(caught.value)
    assert "4242" not in str(caught.value)
    assert "default.yaml:4" in str(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("declared", [
    Declared("token", str, "hunter2", "secret: key"), Declared("token", int, 42424242, "secret: key"),
    Declared("token", str, "", "secret: key"), Declared("token", list[str], ["hunter2"], "secret: key"),
    Declared("token", list[SecretStr], ["${A}"], "secret: key"), Declared("token", str, "${A}\n", "secret: key"),
])
def test_the_default_of_a_secret_is_a_reference(declared):
    with pytest.raises(ParameterError, match=r"train\.token") as caught:
        build_schema(BaseModel, {"train": {"token": declared}})
    assert "hunter2" not in str(caught.value)
    assert "4242" not in str(caught.value)
