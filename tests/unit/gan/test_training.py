import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from facechain.consensus.kinds import StageType
from facechain.gan.checkpoints import checkpoint_folder, load_generator
from facechain.gan.device import Device
from facechain.gan.errors import CheckpointError, ConfigError, DatasetError, TrainingDivergedError
from facechain.gan.presets import PPSA_PAPER, R3_ATTN_32, TINY
from facechain.gan.runs import TrainingRun, read_stats
from facechain.gan.stages import read_stages
from facechain.gan.training import Trainer
from support.faces import made_faces

FACES = made_faces(people=12, per_person=3)


def weights(trainer: Trainer) -> list[torch.Tensor]:
    parts = (trainer.generator, trainer.discriminator, trainer.average.module)
    return [value.clone() for part in parts for value in part.state_dict().values()]


def same(left: list[torch.Tensor], right: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


def test_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(cpu: Device, tmp_path: Path) -> None:
    whole = TrainingRun(tmp_path / "whole", config=TINY, faces=FACES, device=cpu)
    whole.run()
    first = TrainingRun(tmp_path / "parts", config=TINY, faces=FACES, device=cpu)
    result = first.run(stop=lambda: first.trainer.step == 3)
    assert not result.finished
    second = TrainingRun(tmp_path / "parts", config=TINY, faces=FACES, device=cpu, resume=True)
    assert second.trainer.images_seen == 24
    assert second.run().finished
    assert same(weights(whole.trainer), weights(second.trainer))
    assert (tmp_path / "whole/generator.safetensors").read_bytes() == (
        tmp_path / "parts/generator.safetensors"
    ).read_bytes()
    assert [row["images_seen"] for row in read_stats(tmp_path / "parts")] == [24, 64]


def test_training_moves_both_networks_and_reports_speed(cpu: Device, tmp_path: Path) -> None:
    run = TrainingRun(tmp_path, config=TINY, faces=FACES, device=cpu)
    before = weights(run.trainer)
    result = run.run(checkpoint_images=32)
    assert not same(before, weights(run.trainer))
    assert result.images_per_second > 0
    assert result.images_seen == TINY.total_images
    assert len(list((tmp_path / "samples").glob("*.png"))) == 2
    assert (tmp_path / "losses.png").stat().st_size > 1000
    assert set(read_stats(tmp_path)[0]) >= {"d_loss", "g_loss", "penalty", "images_per_second"}


def test_run_records_data_set_and_training_as_stages(run_folder: Path) -> None:
    dataset, training = read_stages(run_folder / "stage.json")
    assert (dataset.stage_type, training.stage_type) == (StageType.DATASET, StageType.TRAINING)
    assert training.inputs == ("dataset",)
    assert training.artifact == load_generator(run_folder / "generator.safetensors").digest
    facts = dict(dataset.details)
    assert int(facts["training_images"]) + int(facts["heldout_images"]) == int(facts["images"])


def test_held_out_people_are_not_trained_on(cpu: Device, tmp_path: Path) -> None:
    run = TrainingRun(tmp_path, config=TINY, faces=FACES, device=cpu, holdout_share=0.3)
    assert run.heldout_images > 0
    assert not set(run.held_out.identities) & set(run.training.identities)
    assert len(run.trainer._images) == run.training_images


def test_paper_preset_runs_a_step(cpu: Device) -> None:
    faces = made_faces(people=16, per_person=2, side=32)
    trainer = Trainer(replace(PPSA_PAPER, batch=8), faces.images, cpu)
    trainer.run_step()
    assert trainer.take_moments()["d_loss"] > 0
    assert same(
        list(trainer.generator.state_dict().values()), list(trainer.average.module.state_dict().values())
    )


def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_the_last_checkpoint(
    cpu: Device, tmp_path: Path
) -> None:
    run = TrainingRun(tmp_path, config=TINY, faces=FACES, device=cpu)

    def poison() -> bool:
        if run.trainer.step == 5:
            with torch.no_grad():
                run.trainer.discriminator.score.weight.fill_(float("nan"))
        return False

    with pytest.raises(TrainingDivergedError, match="finite") as caught:
        run.run(stop=poison, checkpoint_images=32)
    assert caught.value.exit_code == 2
    good = load_generator(checkpoint_folder(tmp_path, 32) / "generator.safetensors")
    assert all(bool(weight.isfinite().all()) for weight in good.module.parameters())
    assert not checkpoint_folder(tmp_path, 64).exists()


def test_resume_refuses_other_data_and_other_configuration(cpu: Device, tmp_path: Path) -> None:
    TrainingRun(tmp_path, config=TINY, faces=FACES, device=cpu).run(stop=lambda: True)
    with pytest.raises(ConfigError, match="--resume"):
        TrainingRun(tmp_path, config=TINY, faces=FACES, device=cpu)
    with pytest.raises(ConfigError, match="other data"):
        TrainingRun(tmp_path, config=TINY, faces=FACES, device=cpu, holdout_share=0.4, resume=True)
    other = replace(TINY, seed=1, loss=replace(TINY.loss, penalty_interval=TINY.loss.penalty_interval + 1))
    with pytest.raises(CheckpointError, match="configuration") as caught:
        TrainingRun(tmp_path, config=other, faces=FACES, device=cpu, resume=True)
    assert caught.value.got == (
        f"loss.penalty_interval: was {TINY.loss.penalty_interval}, now {other.loss.penalty_interval}; "
        f"seed: was {TINY.seed}, now 1"
    )


def test_resume_without_a_run_is_refused_and_leaves_nothing(cpu: Device, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with pytest.raises(ConfigError, match=f"nothing to resume.*none in {folder}"):
        TrainingRun(folder, config=TINY, faces=FACES, device=cpu, resume=True)
    assert not folder.exists()


def test_a_training_state_from_before_a_field_came_is_taken_up(cpu: Device) -> None:
    old = Trainer(TINY, FACES.images, cpu)
    old.run_step()
    state = old.state()
    config = json.loads(str(state["config"]))
    del config["schedule_images"], config["generator"]["family"]
    again = Trainer(TINY, FACES.images, cpu)
    again.restore(state | {"config": json.dumps(config)})
    assert (again.step, again.images_seen) == (1, TINY.batch)
    weights = zip(again.generator.parameters(), old.generator.parameters(), strict=True)
    assert all(torch.equal(mine, other) for mine, other in weights)


def test_tensorboard_shows_the_rows_and_the_samples(cpu: Device, tmp_path: Path) -> None:
    run = TrainingRun(tmp_path, config=TINY, faces=FACES, device=cpu)
    run.run(checkpoint_images=32)
    run.close()
    shown = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    rows = read_stats(tmp_path)
    assert [(event.step, event.value) for event in shown.Scalars("d_loss")] == [
        (row["images_seen"], pytest.approx(row["d_loss"])) for row in rows
    ]
    assert [event.step for event in shown.Images("samples")] == [32, 64]


def test_a_generator_that_draws_one_face_ends_the_run(cpu: Device, tmp_path: Path) -> None:
    run = TrainingRun(tmp_path, config=TINY, faces=FACES, device=cpu, grace_images=0)

    def flatten() -> bool:
        with torch.no_grad():
            for part in (run.trainer.generator, run.trainer.average.module):
                for weight in part.parameters():
                    weight.zero_()
        return False

    with pytest.raises(TrainingDivergedError, match="collapsed"):
        run.run(stop=flatten, checkpoint_images=8)


def test_losses_beyond_reason_end_the_run_though_they_are_finite(cpu: Device, tmp_path: Path) -> None:
    run = TrainingRun(tmp_path, config=TINY, faces=FACES, device=cpu)
    with torch.no_grad():
        run.trainer.discriminator.score.bias.fill_(1e6)
    with pytest.raises(TrainingDivergedError, match="d_real"):
        run.run()


def test_a_loss_with_penalties_is_not_compiled(cpu: Device) -> None:
    with pytest.raises(ConfigError, match="differentiate twice"):
        Trainer(TINY, FACES.images, cpu, compiled=True)


def test_a_residual_preset_runs_a_step(cpu: Device) -> None:
    faces = made_faces(people=4, per_person=2, side=32)
    trainer = Trainer(replace(R3_ATTN_32, batch=4), faces.images, cpu)
    before = weights(trainer)
    trainer.run_step()
    assert not same(before, weights(trainer))
    assert trainer.take_moments()["penalty"] > 0


def test_a_data_set_smaller_than_a_batch_is_refused(cpu: Device) -> None:
    with pytest.raises(DatasetError, match="smaller"):
        Trainer(TINY, FACES.images[:3], cpu)
