"""The configuration tree: round trips, and every way a user can get it wrong."""

import contextlib
import dataclasses
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heimdall_jax.config import (
    NAMED,
    NOT_NEGATIVE,
    POSITIVE,
    SHARE,
    SIMULATION,
    Config,
    DataConfig,
    ExportConfig,
    ModelConfig,
    TrainingConfig,
    from_tree,
    load,
    save,
)
from heimdall_jax.errors import ConfigError, StorageError
from heimdall_jax.worlds import POWER_WORLD, TIMING_WORLD


def written(tmp_path, text):
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("name", NAMED)
def test_named_configs_load_and_round_trip(name, tmp_path):
    config = load(name)
    save(config, tmp_path / "config.yaml")
    assert load(str(tmp_path / "config.yaml")) == config


@settings(deadline=None, max_examples=25)
@given(
    rate=st.floats(1e-12, 1e3),
    path=st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    limit=st.none() | st.integers(-5, 10**9),
    fmax=st.none() | st.floats(-1e6, 1e6),
)
def test_any_values_round_trip(tmp_path_factory, rate, path, limit, fmax):
    default = Config()
    config = dataclasses.replace(
        default,
        data=DataConfig(path=path, limit=limit),
        features=dataclasses.replace(default.features, fmax=fmax),
        training=TrainingConfig(learning_rate=rate),
    )
    file = tmp_path_factory.mktemp("config") / "c.yaml"
    save(config, file)
    assert load(str(file)) == config


def test_missing_keys_keep_their_defaults(tmp_path):
    config = load(written(tmp_path, "seed: 3\nmodel: {dropout: 0.1}\n"))
    assert config == dataclasses.replace(Config(), seed=3, model=ModelConfig(dropout=0.1))
    assert load(written(tmp_path, "")) == Config()


@pytest.mark.parametrize("world", [POWER_WORLD, TIMING_WORLD])
def test_named_worlds_round_trip(world, tmp_path):
    config = dataclasses.replace(Config(), world=world)
    save(config, tmp_path / "config.yaml")
    assert load(str(tmp_path / "config.yaml")) == config
    assert hash(load(str(tmp_path / "config.yaml")).world) == hash(world)  # lists would not do


def test_lists_are_checked_item_by_item(tmp_path):
    config = load(written(tmp_path, "world: {clock_sigma_s: [5e-8, 1], kinds: [ssb, morse], frequencies_hz: []}"))
    assert config.world.clock_sigma_s == (5e-8, 1.0)
    assert (config.world.kinds, config.world.frequencies_hz) == (("ssb", "morse"), ())


def test_numbers_as_people_write_them(tmp_path):
    """PyYAML follows YAML 1.1, for which 1e-3 without a dot is text."""
    config = load(written(tmp_path, "training: {learning_rate: 1e-3, clip_norm: 2}"))
    assert (config.training.learning_rate, config.training.clip_norm) == (1e-3, 2.0)
    assert isinstance(config.training.clip_norm, float)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sead: 3", "got sead; .*Did you mean seed\\?"),
        ("training: {epoch: 3}", "got training.epoch; .*Did you mean training.epochs\\?"),
        ("zzz: 3", "got zzz; allowed: seed, data, .*Remove it"),
        ("1: 3", "got 1; "),
        ("training: 3", "config training.: got 3; allowed: a mapping"),
        ("world: {kinds: ssb}", "config world.kinds: got 'ssb'; allowed: a list"),
        ("world: {kinds: [ssb, am]}", r"config world.kinds\[1\]: got 'am'; allowed: .*'carrier'"),
        ("world: {clock_sigma_s: [1, fast]}", r"config world.clock_sigma_s\[1\]: got 'fast'; allowed: float"),
        ("[]", "config root: got \\[\\]; allowed: a mapping"),
        ("seed: false", "config seed: got False; allowed: int"),
        ("seed: 1.5", "config seed: got 1.5; allowed: int"),
        ("seed:", "config seed: got None; allowed: int"),
        ("seed: '1'", "config seed: got '1'; allowed: int"),
        ("training: {learning_rate: fast}", "training.learning_rate: got 'fast'; allowed: float"),
        ("training: {learning_rate: .nan}", "training.learning_rate: got nan"),
        ("training: {learning_rate: 1e999}", "training.learning_rate: got inf"),
        ("data: {limit: ten}", "data.limit: got 'ten'; allowed: .*int"),
        ("data: {source: radio}", "data.source: got 'radio'; allowed: .*'powder'"),
        ("data: {path: 2024-01-31}", "data.path: got datetime.date.*; allowed: str"),
        ("data: {path: 2024-13-45}", "plain YAML"),
        ("tracking: {enabled: 1}", "tracking.enabled: got 1; allowed: bool"),
        ("model: {dropout: 1.0}", "model.dropout: got 1.0; allowed: 0 or more, below 1"),
        ("training: {epochs: 0}", "training.epochs: got 0; allowed: above 0"),
        ("seed: -1", "config seed: got -1; allowed: 0 or more"),
        ("seed: [1", "plain YAML"),
        ("\x07", "plain YAML"),
        ("a: &a [*a, *b]", "plain YAML"),
        ("[" * 1500, "plain YAML|mapping"),
    ],
)
def test_bad_content_is_a_config_error_on_one_line(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message) as caught:
        load(written(tmp_path, text))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "tag", ["!!python/object/apply:os.mkdir [FOLDER]", "!!python/object/new:os.system [x]", "!!python/name:os.system"]
)
def test_a_yaml_tag_runs_nothing(tmp_path, tag):
    folder = tmp_path / "made by an attacker"
    with pytest.raises(ConfigError, match="plain YAML"):
        load(written(tmp_path, f"seed: {tag.replace('FOLDER', str(folder))}"))
    assert not folder.exists()


def test_a_bomb_of_aliases_gives_a_short_message(tmp_path):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9)]
    with pytest.raises(ConfigError, match="an alias in line 2"):
        load(written(tmp_path, "\n".join(lines)))
    nested = "\n".join("- " + line.split(": ", 1)[1] for line in lines)
    with pytest.raises(ConfigError) as caught:
        load(written(tmp_path, f"seed:\n{nested}"))
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(("name", "cure"), [("simulatoin", "Did you mean 'simulation'"), ("x", "Give a name or a")])
def test_an_unknown_name_suggests_the_nearest(name, cure):
    with pytest.raises(ConfigError, match=cure):
        load(name)


def test_unreadable_files_are_storage_errors(tmp_path):
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "latin.yaml").write_bytes(b"seed: \xff")
    for name in ("absent.yaml", "folder.yaml", "latin.yaml"):
        with pytest.raises(StorageError, match="config file"):
            load(str(tmp_path / name))


def test_a_config_that_cannot_be_saved_is_a_storage_error(tmp_path):
    with pytest.raises(StorageError, match="config file"):
        save(Config(), tmp_path / "absent" / "config.yaml")


def test_ranges_name_real_settings_and_hold_at_construction():
    """Every name in the table is a field; a value below all ranges is refused by each."""
    for name in (*POSITIVE, *NOT_NEGATIVE, *SHARE):
        *section, field = name.split(".")
        config = Config()
        inner = getattr(config, section[0]) if section else config
        assert field in {f.name for f in dataclasses.fields(inner)}
        below = {field: -1 if isinstance(getattr(inner, field), int) else -1.0}
        changes = {section[0]: dataclasses.replace(inner, **below)} if section else below
        with pytest.raises(ConfigError, match=name):
            dataclasses.replace(config, **changes)


@settings(deadline=None, max_examples=50)
@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["seed", "data", "model", "path", "limit", "dropout", "x"]), inner, max_size=3
            )
        ),
        max_leaves=8,
    )
)
def test_any_tree_is_a_config_or_a_clear_error(tree):
    with contextlib.suppress(ConfigError):
        assert isinstance(from_tree(tree), Config)


def test_names_are_not_taken_for_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkdir("simulation")
    assert load("simulation") == SIMULATION


def test_smaller_exports_are_a_list_of_known_precisions(tmp_path):
    text = "model: {name: receiver_set}\nexport: {precisions: [int8, float16]}"
    config = load(written(tmp_path, text))
    assert config.export == ExportConfig(("int8", "float16"))
    save(config, tmp_path / "again.yaml")
    assert load(str(tmp_path / "again.yaml")) == config
    with pytest.raises(ConfigError, match=r"config export.precisions\[0\]: got 'int4'; allowed: \('float16', 'int8'\)"):
        load(written(tmp_path, "export: {precisions: [int4]}"))
    with pytest.raises(ConfigError, match="at most once"):
        load(written(tmp_path, "export: {precisions: [int8, int8]}"))


def test_smaller_exports_that_a_network_can_never_have_are_refused_before_training():
    with pytest.raises(ConfigError, match=r"export.precisions: got \('float16',\); allowed: none with model.timing"):
        dataclasses.replace(SIMULATION, export=ExportConfig(("float16",)))
    with pytest.raises(ConfigError, match=r"got \('float16', 'int8'\); allowed: float16 with model.name radio_map"):
        dataclasses.replace(NAMED["power"], export=ExportConfig(("float16", "int8")))
    assert dataclasses.replace(NAMED["power"], export=ExportConfig(("float16",))).export.precisions == ("float16",)
