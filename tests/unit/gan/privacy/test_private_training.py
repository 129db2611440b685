"""Differentially private training: what is clipped, what is noised, when it stops, what is written."""

import json
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from facechain.gan.checkpoints import load_state, newest_state
from facechain.gan.config import PrivacyConfig, PrivacyUnit, TrainingConfig, from_json, override, to_json
from facechain.gan.device import Device
from facechain.gan.distributed import Group
from facechain.gan.errors import CheckpointError, ConfigError, PrivacyError
from facechain.gan.presets import PPSA_PLUS, R3_ATTN_32, TINY
from facechain.gan.privacy.accounting import Mechanism, spending, steps_within
from facechain.gan.privacy.recipe import changes, private_recipe
from facechain.gan.privacy.secret import Secret, SecretFolder
from facechain.gan.privacy.training import PrivateTrainer, open_private_trainer, records_of, settle
from facechain.gan.runs import TrainingRun, read_stats
from facechain.gan.stages import read_stages
from support.faces import made_faces

FACES = made_faces(people=40, per_person=2)
BUDGET = 1.5
SECRET = Secret(key=bytes(range(32)))
Make = Callable[..., PrivateTrainer]


def private(unit: PrivacyUnit = PrivacyUnit.IMAGE, **fields: float) -> TrainingConfig:
    chosen = PrivacyConfig(unit=unit, **{"epsilon": 8.0, "delta": 1e-3, "noise_multiplier": 1.0} | fields)  # type: ignore[arg-type]
    return private_recipe(replace(TINY, privacy=chosen))


@pytest.fixture
def make(cpu: Device) -> Make:
    def made(config: TrainingConfig, secret: Secret | None = SECRET) -> PrivateTrainer:
        return PrivateTrainer(config, FACES, cpu, secret=secret)

    return made


def weights(trainer: PrivateTrainer) -> torch.Tensor:
    parts = (trainer.generator, trainer.discriminator)
    return torch.cat([weight.detach().flatten() for part in parts for weight in part.parameters()])


def clipped_by_hand(trainer: PrivateTrainer, images: torch.Tensor, clip: float) -> torch.Tensor:
    """Sum of the gradients of softplus(-score), one image at a time, each clipped."""
    total = torch.zeros(sum(weight.numel() for weight in trainer.discriminator.parameters()))
    for image in images:
        trainer.discriminator.zero_grad()
        loss = torch.nn.functional.softplus(-trainer.discriminator(image[None])).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        flat = torch.cat([w.grad.flatten() for w in trainer.discriminator.parameters() if w.grad is not None])
        total += flat * min(1.0, clip / (float(flat.norm()) + 1e-6))
    return total


def test_gradients_are_those_of_single_images_clipped_and_noised(make: Make) -> None:
    clip, noise = 0.05, 0.7
    trainer = make(private(clip=clip, noise_multiplier=noise))
    real = trainer._real_batch(torch.Generator().manual_seed(1))
    assert len(real) > 2
    found = torch.cat([part.flatten() for part in trainer._private_gradient(real.clone())])
    expected = clipped_by_hand(trainer, real, clip) + SECRET.noise(0, len(found)) * noise * clip
    assert torch.allclose(found, (expected / TINY.batch).float(), atol=1e-7)


def test_gradients_are_the_same_in_pieces(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make(private())
    real = trainer._real_batch(torch.Generator())
    whole = trainer._private_gradient(real.clone())
    monkeypatch.setattr("facechain.gan.privacy.training.CHUNK", 3)
    for left, right in zip(whole, trainer._private_gradient(real.clone()), strict=True):
        assert torch.allclose(left, right, atol=1e-6)


def test_a_step_without_records_is_noise_alone(make: Make) -> None:
    trainer = make(private())
    found = torch.cat([part.flatten() for part in trainer._private_gradient(torch.empty(0, 3, 16, 16))])
    assert torch.allclose(found, (SECRET.noise(0, len(found)) / TINY.batch).float())


def test_one_record_moves_the_gradient_by_no_more_than_the_clip(make: Make) -> None:
    clip = 0.01
    trainer = make(private(clip=clip))
    real = trainer._real_batch(torch.Generator())
    odd = torch.randn(64, 3, 16, 16, generator=torch.Generator().manual_seed(2)) * 50
    loudest = odd[trainer.discriminator(odd).argmin()]
    loud = torch.cat([real, loudest[None]])
    without = torch.cat([part.flatten() for part in trainer._private_gradient(real.clone())])
    with_it = torch.cat([part.flatten() for part in trainer._private_gradient(loud)])
    moved = float((with_it - without).norm()) * TINY.batch
    assert moved == pytest.approx(clip, rel=1e-3)


def test_real_images_reach_the_weights_through_the_private_gradient_alone(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, blind = make(private()), make(private())
    monkeypatch.setattr(blind, "_images", 255 - blind._images)
    for trainer in (seen, blind):
        fixed = [torch.full_like(weight, 0.01) for weight in trainer.discriminator.parameters()]
        monkeypatch.setattr(trainer, "_private_gradient", lambda _, fixed=fixed: fixed)
        trainer.run_step()
    assert torch.equal(weights(seen), weights(blind))
    assert seen.take_moments() == blind.take_moments()


def test_sampling_and_noise_are_what_the_accountant_assumes() -> None:
    drawn = [SECRET.sample(step, records=2_000, rate=0.1) for step in range(50)]
    sizes = np.array([len(members) for members in drawn])
    assert abs(sizes.mean() - 200) < 4 * np.sqrt(180 / 50)
    assert 0.5 < sizes.var() / 180 < 1.7
    noise = SECRET.noise(3, 100_001)
    assert noise.shape == (100_001,)
    assert abs(float(noise.mean())) < 4 / 100_001**0.5
    assert float(noise.var()) == pytest.approx(1.0, abs=0.02)
    assert float((noise**4).mean()) == pytest.approx(3.0, abs=0.15)
    assert float(noise[0::2][:50_000] @ noise[1::2]) / 50_000 == pytest.approx(0, abs=0.02)


def test_draws_differ_by_key_step_and_purpose_and_repeat_otherwise() -> None:
    assert torch.equal(SECRET.noise(1, 8), SECRET.noise(1, 8))
    assert not torch.equal(SECRET.noise(1, 8), SECRET.noise(2, 8))
    assert not torch.equal(SECRET.noise(1, 8), Secret(key=bytes(32)).noise(1, 8))
    assert not np.array_equal(SECRET.words("sample", 1, 8), SECRET.words("noise", 1, 8))
    assert "key" not in repr(SECRET)


def test_people_are_records_and_one_of_their_images_is_in_a_step(make: Make) -> None:
    records = records_of(FACES, PrivacyUnit.IDENTITY)
    assert len(records) == 40
    assert all(len({FACES.identities[i] for i in members}) == 1 for members in records)
    trainer = make(private(PrivacyUnit.IDENTITY))
    assert trainer.mechanism.sample_rate == TINY.batch / 40
    chosen = len(SECRET.sample(0, records=40, rate=TINY.batch / 40))
    assert len(trainer._real_batch(torch.Generator())) == chosen
    nameless = replace(FACES, identities=("", *FACES.identities[1:]))
    with pytest.raises(PrivacyError, match="1 images without"):
        records_of(nameless, PrivacyUnit.IDENTITY)


def test_the_budget_ends_training_at_the_last_step_it_pays_for(cpu: Device, tmp_path: Path) -> None:
    config = replace(private(epsilon=BUDGET, noise_multiplier=1.5), total_images=8 * 64)
    run = TrainingRun(tmp_path, config=config, faces=FACES, device=cpu)
    trainer = run.trainer
    assert isinstance(trainer, PrivateTrainer)
    last = trainer.last_step
    assert 1 < last < 64
    assert spending(trainer.mechanism, last).prv <= BUDGET < spending(trainer.mechanism, last + 1).prv
    assert run.run().finished
    assert trainer.step == last
    with pytest.raises(PrivacyError, match="spent"):
        trainer.run_step()
    facts = dict(read_stages(tmp_path / "stage.json")[1].details)
    assert facts["privacy"] == "DP-SGD per image"
    assert float(facts["dp_epsilon"]) <= BUDGET <= float(facts["dp_epsilon_rdp"])
    assert int(facts["dp_steps"]) == last
    assert {
        "dp_delta",
        "dp_unit",
        "dp_sample_rate",
        "dp_noise_multiplier",
        "dp_clip",
        "dp_accountant",
    } <= set(facts)


def test_noise_is_chosen_so_that_the_run_just_fits() -> None:
    config = settle(private(epsilon=4.0, noise_multiplier=0.0), FACES)
    mechanism = Mechanism(
        noise_multiplier=config.privacy.noise_multiplier, sample_rate=TINY.batch / len(FACES), delta=1e-3
    )
    assert 3.9 < spending(mechanism, config.steps).prv <= 4.0


@pytest.mark.parametrize("noise, rate, steps", [(1.0, 0.01, 500), (0.8, 0.004, 1_000), (2.0, 0.2, 50)])
def test_the_accountants_agree(noise: float, rate: float, steps: int) -> None:
    found = spending(Mechanism(noise_multiplier=noise, sample_rate=rate, delta=1e-5), steps)
    assert 0.6 * found.rdp < found.prv <= found.rdp


def test_accountants_that_disagree_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facechain.gan.privacy.accounting.RDPAccountant.get_epsilon", lambda *_, **__: 0.1)
    with pytest.raises(PrivacyError, match="disagree"):
        spending(Mechanism(noise_multiplier=1.0, sample_rate=0.1, delta=1e-5), 10)


def test_steps_within_a_budget_of_nothing() -> None:
    mechanism = Mechanism(noise_multiplier=1.0, sample_rate=0.2, delta=1e-5)
    assert steps_within(mechanism, epsilon=0.01, at_most=4) == 0


def test_a_resumed_private_run_ends_with_the_same_weights(cpu: Device, tmp_path: Path) -> None:
    config = private(epsilon=50.0)
    first = TrainingRun(tmp_path, config=config, faces=FACES, device=cpu)
    first.run(stop=lambda: first.trainer.step == 3)
    place = SecretFolder.of(tmp_path)
    secret = place.read()
    assert secret is not None
    second = TrainingRun(tmp_path, config=config, faces=FACES, device=cpu, resume=True)
    assert second.run().finished
    whole = PrivateTrainer(config, second.training, cpu, secret=secret)
    for _ in range(config.steps):
        whole.run_step()
    assert isinstance(second.trainer, PrivateTrainer)
    assert torch.equal(weights(whole), weights(second.trainer))
    assert place.read() is None
    finished = TrainingRun(tmp_path, config=config, faces=FACES, device=cpu, resume=True)
    assert finished.run().finished


def test_a_run_whose_secret_was_lost_does_not_go_on(cpu: Device, tmp_path: Path) -> None:
    config = private(epsilon=50.0)
    first = TrainingRun(tmp_path, config=config, faces=FACES, device=cpu)
    first.run(stop=lambda: first.trainer.step == 3)
    SecretFolder.of(tmp_path).end()
    with pytest.raises(PrivacyError, match="secret"):
        TrainingRun(tmp_path, config=config, faces=FACES, device=cpu, resume=True).run()
    SecretFolder.of(tmp_path).create()
    with pytest.raises(CheckpointError, match="another run"):
        TrainingRun(tmp_path, config=config, faces=FACES, device=cpu, resume=True)


def test_nothing_that_is_written_tells_of_the_secret_or_of_scores_of_real_images(
    cpu: Device, tmp_path: Path
) -> None:
    run = TrainingRun(tmp_path, config=private(epsilon=50.0), faces=FACES, device=cpu)
    key = tmp_path / "secret" / "noise.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    run.run(stop=lambda: run.trainer.step == 3)
    written = [path for path in tmp_path.rglob("*") if path.is_file() and path != key]
    assert all(key.read_bytes() not in path.read_bytes() for path in written)
    assert set(read_stats(tmp_path)[0]) == {"step", "images_seen", "images_per_second", "g_loss", "d_fake"}
    newest = newest_state(tmp_path)
    assert newest is not None
    assert load_state(newest)["dp_history"] == [[1.0, TINY.batch / run.training_images, 3]]
    dataset = read_stages(tmp_path / "stage.json")[0]
    assert dataset.artifact.hex() != FACES.digest
    assert dict(dataset.details)["artifact"] == "salted commitment"
    assert json.loads((tmp_path / "dataset.json").read_text())["digest"] == FACES.digest


def test_steps_on_generated_images_change_the_weights_and_not_the_spending(make: Make) -> None:
    plain, more = make(private()), make(private(fake_steps=2))
    for trainer in (plain, more):
        trainer.run_step()
    assert not torch.equal(weights(plain), weights(more))
    assert plain.privacy_facts()["dp_epsilon"] == more.privacy_facts()["dp_epsilon"]


def test_presets_become_private_and_say_how() -> None:
    asked = replace(PPSA_PLUS, privacy=PrivacyConfig(unit=PrivacyUnit.IMAGE, epsilon=10.0))
    settled = private_recipe(asked)
    assert not settled.loss.penalised
    assert not settled.bf16
    assert [line.split(":")[0].split(" ")[0] for line in changes(asked)] == ["loss", "R1", "float32"]
    assert changes(settled) == ()
    assert private_recipe(settled) == settled
    with pytest.raises(ConfigError, match="dcgan"):
        private_recipe(R3_ATTN_32)


def test_what_cannot_be_private_is_refused(cpu: Device, make: Make, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="private_recipe"):
        make(replace(private(), bf16=True))
    with pytest.raises(ConfigError, match="one process"):
        open_private_trainer(
            tmp_path, config=private(), training=FACES, device=cpu, group=Group(size=2), compiled=False
        )
    with pytest.raises(PrivacyError, match="too few records"):
        settle(replace(private(), batch=64), FACES)
    with pytest.raises(PrivacyError, match="number of records"):
        settle(private(delta=1e-3), made_faces(people=1_000, per_person=1))
    with pytest.raises(PrivacyError, match="one step"):
        make(private(epsilon=0.1, noise_multiplier=0.5))
    with pytest.raises(PrivacyError, match="nobody"):
        TrainingRun(tmp_path, config=private(), faces=FACES, device=cpu, holdout_share=0.0)


def test_privacy_fields_are_checked_and_old_configurations_read() -> None:
    assert from_json(to_json(private())) == private()
    old = json.loads(to_json(TINY))
    del old["privacy"]
    assert from_json(json.dumps(old)) == TINY
    for field in ("epsilon=0", "epsilon=1e6", "delta=0.5", "clip=0", "fake_steps=-1", "noise_multiplier=-1"):
        with pytest.raises(ConfigError, match="privacy"):
            override(private(), [f"privacy.{field}"])
    with pytest.raises(ConfigError, match="unit"):
        override(TINY, ["privacy.epsilon=3"])
