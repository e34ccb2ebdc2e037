"""Configuration: deltas and overrides merge over a full default, and nothing misspelt is ignored."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from latentsync import config
from latentsync.types import InputError

DEFAULT = """
seed: 1
name: full
optimiser: {learning_rate: 1.0e-4, betas: [0.9, 0.999], warmup: null}
video: {resolution: 256, flip: false}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "default.yaml").write_text(DEFAULT)
    return tmp_path


def delta(folder: Path, text: str, name: str = "delta.yaml") -> Path:
    (folder / name).write_text(text)
    return folder / name


def test_deltas_chain_and_overrides_come_last(folder):
    delta(folder, "base: default.yaml\nvideo: {resolution: 512}\nseed: 2\n", "big.yaml")
    path = delta(folder, "base: big.yaml\nseed: 3\noptimiser: {warmup: 100}\n")
    merged = config.load_config(path, ["optimiser.learning_rate=1e-5", "video.flip=true"])
    assert OmegaConf.to_container(merged) == {
        "seed": 3,
        "name": "full",
        "optimiser": {"learning_rate": 1e-5, "betas": [0.9, 0.999], "warmup": 100},
        "video": {"resolution": 512, "flip": True},
    }


def test_a_group_may_be_a_delta_of_another_file(folder):
    path = delta(folder, "job: a\ntraining: {base: default.yaml, video: {resolution: 64}}\n")
    merged = config.load_config(path, ["training.seed=9"])
    assert (merged.training.seed, merged.training.video.resolution, merged.training.video.flip) == (9, 64, False)
    with pytest.raises(InputError, match=r"unknown option 'training\.sed'; did you mean training\.seed\?"):
        config.load_config(path, ["training.sed=9"])
    with pytest.raises(InputError, match=r"unknown option 'optimiser\.lerning_rate'"):
        config.load_config(delta(folder, "training: {base: default.yaml, optimiser: {lerning_rate: 1}}\n", "b.yaml"))
    with pytest.raises(InputError, match=r"its base gone\.yaml is not in"):
        config.load_config(delta(folder, "training: {base: gone.yaml}\n", "c.yaml"))


def test_an_unknown_key_is_named_with_its_near_matches(folder):
    path = delta(folder, "base: default.yaml\noptimiser: {lerning_rate: 1}\n")
    with pytest.raises(InputError) as error:
        config.load_config(path)
    assert "'optimiser.lerning_rate'" in str(error.value)
    assert "did you mean optimiser.learning_rate?" in str(error.value)
    assert str(path) in str(error.value)


def test_an_unknown_override_is_named(folder):
    with pytest.raises(InputError, match=r"unknown option 'sed'; did you mean seed\?"):
        config.load_config(folder / "default.yaml", ["sed=3"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("video: 3", "video is 3 where a group of options is wanted"),
        ("seed: {a: 1}", "seed is .* where a number is wanted"),
        ("video: {resolution: large}", "video.resolution is 'large' where a number is wanted"),
        ("video: {flip: 1}", "video.flip is 1 where true or false is wanted"),
        ("optimiser: {betas: 0.9}", "optimiser.betas is 0.9 where a list is wanted"),
        ("- 1\n- 2", "holds a list"),
        ("a: [1", "not a readable yaml file"),
    ],
)
def test_values_of_another_kind_are_refused(folder, text, words):
    path = delta(folder, text if text.startswith(("-", "a:")) else f"base: default.yaml\n{text}\n")
    with pytest.raises(InputError, match=words):
        config.load_config(path)


def test_a_missing_file_says_what_there_is(folder, monkeypatch):
    monkeypatch.setattr(config, "resource", lambda name: folder)
    with pytest.raises(InputError, match=r"no configuration nothing.*one of default"):
        config.load_config("nothing")
    assert config.load_config("default").seed == 1


def test_a_missing_base_is_named(folder):
    with pytest.raises(InputError, match=r"base gone\.yaml is not in"):
        config.load_config(delta(folder, "base: gone.yaml"))


def test_the_saved_file_is_complete_and_needs_no_base(folder):
    merged = config.load_config(delta(folder, "base: default.yaml\nseed: 9\n"))
    config.save_config(merged, folder / "run" / "config.yaml")
    assert config.load_config(folder / "run" / "config.yaml") == merged


@given(seed=st.integers(-(2**31), 2**31), rate=st.floats(1e-8, 1.0))
def test_an_override_arrives_as_the_number_it_was(tmp_path_factory, seed, rate):
    path = delta(tmp_path_factory.mktemp("configs"), DEFAULT)
    merged = config.load_config(path, [f"seed={seed}", f"optimiser.learning_rate={rate!r}"])
    assert (merged.seed, merged.optimiser.learning_rate) == (seed, rate)


def test_resources_are_found_and_missing_ones_named():
    assert config.resource("configs").is_dir()
    with pytest.raises(InputError, match=r"nowhere\.bin is not in this installation"):
        config.resource("nowhere.bin")


def test_every_shipped_configuration_loads():
    for path in config.resource("configs").rglob("*.yaml"):
        config.load_config(path)


def test_words_that_yaml_takes_for_truth_values_stay_texts(folder):
    path = delta(folder, "base: default.yaml\n")
    assert config.load_config(path, ["name=off", "video.flip=true"]).name == "off"
    with pytest.raises(InputError, match="where true or false is wanted"):
        config.load_config(path, ["video.flip=no"])


def test_a_group_may_stand_where_the_default_says_nothing(folder):
    path = delta(folder, "base: default.yaml\noptimiser: {warmup: {steps: 3}}\n")
    assert config.load_config(path).optimiser.warmup.steps == 3
