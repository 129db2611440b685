import json
from dataclasses import replace

import pytest

from facechain.gan.config import Family, Norm, from_json, override, to_json
from facechain.gan.errors import ConfigError
from facechain.gan.networks import Discriminator, Generator, parameter_count
from facechain.gan.presets import PPSA_PAPER, PRESETS, TINY, deviations, find_preset


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_config_survives_its_json(name: str) -> None:
    config = find_preset(name)
    assert from_json(to_json(config)) == config


@pytest.mark.parametrize(
    "change",
    [
        {"preset": 3},
        {"flip": 1},
        {"batch": 0},
        {"surplus": 1},
        {"batch": "8"},
        {"generator": 1},
    ],
)
def test_config_refuses_wrong_values(change: dict[str, object]) -> None:
    fields = json.loads(to_json(TINY)) | change
    with pytest.raises(ConfigError):
        from_json(json.dumps(fields))


def test_config_refuses_a_missing_field_and_bad_json() -> None:
    fields = json.loads(to_json(TINY))
    del fields["seed"]
    with pytest.raises(ConfigError, match="missing"):
        from_json(json.dumps(fields))
    with pytest.raises(ConfigError, match="not JSON"):
        from_json("{")


def test_config_refuses_an_unknown_choice() -> None:
    fields = json.loads(to_json(TINY))
    fields["loss"]["kind"] = "hinge"
    with pytest.raises(ConfigError, match="bce, rpgan"):
        from_json(json.dumps(fields))


def test_config_refuses_resolutions_that_differ() -> None:
    with pytest.raises(ConfigError, match="resolution"):
        replace(TINY, generator=PPSA_PAPER.generator)


def test_paper_preset_has_the_sizes_of_the_paper() -> None:
    assert parameter_count(Generator(PPSA_PAPER.generator)) == 3_560_037
    assert parameter_count(Discriminator(PPSA_PAPER.discriminator)) == 167_649
    assert PPSA_PAPER.batch == 128
    assert PPSA_PAPER.total_images == 30 * 202_599
    assert (PPSA_PAPER.optimizer.learning_rate, PPSA_PAPER.optimizer.beta1) == (2e-4, 0.5)


def test_only_the_paper_preset_lists_deviations() -> None:
    assert len(deviations("ppsa-paper")) >= 5
    assert deviations("ppsa-plus") == ()
    with pytest.raises(ConfigError, match="ppsa-paper"):
        find_preset("stylegan")


def test_a_configuration_from_before_a_field_came_means_what_it_meant() -> None:
    fields = json.loads(to_json(TINY))
    for part, names in (
        ("generator", ("family", "depth")),
        ("discriminator", ("family", "depth", "attention")),
    ):
        for name in names:
            del fields[part][name]
    del fields["schedule_images"], fields["optimizer"]["beta2_end"]
    assert from_json(json.dumps(fields)) == TINY


def test_dotted_fields_are_replaced_and_checked_together() -> None:
    changed = override(
        TINY,
        [
            "optimizer.learning_rate=1e-4",
            "batch=16",
            "flip=false",
            "loss.kind=bce",
            "generator.family=residual",
            "generator.norm=none",
            "generator.widths=[16, 8, 8]",
        ],
    )
    assert (changed.optimizer.learning_rate, changed.batch, changed.flip) == (1e-4, 16, False)
    assert (changed.generator.family, changed.generator.norm) == (Family.RESIDUAL, Norm.NONE)
    assert changed.generator.widths == (16, 8, 8)
    assert override(TINY, []) == TINY


@pytest.mark.parametrize(
    "assignment, said",
    [
        ("batch", "FIELD=VALUE"),
        ("bach=3", "no such field"),
        ("optimizer=3", "no such field"),
        ("optimizer.x.y=3", "no such field"),
        ("batch=large", "expected int, got 'large'"),
        ("batch=0", "batch size"),
        ("optimizer.beta1=1", "0 <= x < 1"),
        ("optimizer.learning_rate=-1", "0 < x"),
        ("generator.norm=none", "residual family"),
        ("generator.depth=0", "residual blocks"),
        ("generator.attention=[64]", "attention outside"),
        ("discriminator.attention=[8]", "residual family"),
        ("seed=NaN", "expected int"),
    ],
)
def test_overrides_that_do_not_fit_are_refused(assignment: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        override(TINY, [assignment])
