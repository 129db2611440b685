import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from facechain.gan.checkpoints import load_state, newest_state
from facechain.gan.device import Device
from facechain.gan.errors import CheckpointError, ConfigError, DatasetError, TrainingDivergedError
from facechain.gan.expression.augment import augment, centre_crop, standardize
from facechain.gan.expression.checkpoints import load_classifier
from facechain.gan.expression.config import FER_COMPACT, PRESETS, TINY, from_json, to_json
from facechain.gan.expression.faces import LabelledFaces
from facechain.gan.expression.inference import predict, views
from facechain.gan.expression.network import ExpressionClassifier
from facechain.gan.expression.runs import ExpressionRun, read_stats
from facechain.gan.expression.training import ExpressionTrainer
from facechain.gan.networks import parameter_count

SHORT = dataclasses.replace(TINY, total_images=256)


def start(folder: Path, faces: LabelledFaces, device: Device, *, resume: bool = False) -> ExpressionRun:
    return ExpressionRun(folder, config=SHORT, faces=faces, device=device, resume=resume)


def test_the_run_learns_the_patterns_and_keeps_the_best_checkpoint(expression_run: Path) -> None:
    rows = read_stats(expression_run)
    assert [row["images_seen"] for row in rows] == [960, 1920]
    best = max(rows, key=lambda row: (row["selection_accuracy"], row["images_seen"]))
    assert best["selection_accuracy"] > 0.8, rows
    assert load_classifier(expression_run).images_seen == best["images_seen"]


def test_a_stopped_run_resumes_to_the_same_file(
    tmp_path: Path, expression_faces: LabelledFaces, cpu: Device
) -> None:
    whole = start(tmp_path / "whole", expression_faces, cpu).run(checkpoint_images=96)
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > 4

    first = start(tmp_path / "parts", expression_faces, cpu).run(checkpoint_images=96, stop=stop)
    assert (first.finished, first.images_seen) == (False, 128)
    torch.manual_seed(99)
    second = start(tmp_path / "parts", expression_faces, cpu, resume=True).run(checkpoint_images=96)
    assert second.finished
    last = [
        run / "checkpoints/000000256/expression.safetensors"
        for run in (tmp_path / "whole", tmp_path / "parts")
    ]
    assert last[0].read_bytes() == last[1].read_bytes()
    assert whole.images_seen == second.images_seen == 256
    again = start(tmp_path / "parts", expression_faces, cpu, resume=True).run(checkpoint_images=96)
    assert again == second


def test_another_seed_gives_other_weights(expression_faces: LabelledFaces, cpu: Device) -> None:
    weights = []
    for seed in (0, 0, 1):
        trainer = ExpressionTrainer(dataclasses.replace(SHORT, seed=seed), expression_faces, cpu)
        trainer.run_step()
        weights.append(torch.cat([p.flatten() for p in trainer.network.parameters()]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_the_end_of_a_run_may_be_moved_until_its_rate_falls(
    tmp_path: Path, expression_faces: LabelledFaces, cpu: Device
) -> None:
    trainer = ExpressionTrainer(SHORT, expression_faces, cpu)
    longer = dataclasses.replace(SHORT, total_images=512)
    for _ in range(3):
        trainer.run_step()
    ExpressionTrainer(longer, expression_faces, cpu).restore(trainer.state())
    steeper = dataclasses.replace(SHORT, decay_share=0.2)
    ExpressionTrainer(steeper, expression_faces, cpu).restore(trainer.state())
    for _ in range(2):
        trainer.run_step()
    with pytest.raises(CheckpointError, match=r"end cannot change.*at most 154 images, got 160"):
        ExpressionTrainer(longer, expression_faces, cpu).restore(trainer.state())
    other = dataclasses.replace(SHORT, seed=5)
    with pytest.raises(CheckpointError, match=f"another configuration.*seed: was {SHORT.seed}, now 5;"):
        ExpressionTrainer(other, expression_faces, cpu).restore(trainer.state())


def test_a_folder_with_a_run_is_not_overwritten_and_other_data_not_mixed_in(
    tmp_path: Path, expression_faces: LabelledFaces, cpu: Device
) -> None:
    with pytest.raises(ConfigError, match="nothing to resume"):
        start(tmp_path / "run", expression_faces, cpu, resume=True)
    start(tmp_path / "run", expression_faces, cpu).run(stop=lambda: True)
    assert newest_state(tmp_path / "run") is not None
    with pytest.raises(ConfigError, match="--resume"):
        start(tmp_path / "run", expression_faces, cpu)
    other = dataclasses.replace(expression_faces, digest="11" * 32)
    with pytest.raises(ConfigError, match="started on other data"):
        start(tmp_path / "run", other, cpu, resume=True)


def test_training_states_hold_no_code_and_damaged_ones_are_refused(
    tmp_path: Path, expression_faces: LabelledFaces, cpu: Device
) -> None:
    start(tmp_path / "run", expression_faces, cpu).run(stop=lambda: True)
    path = newest_state(tmp_path / "run")
    assert path is not None
    assert load_state(path)["step"] == 0
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="cannot read the training state"):
        start(tmp_path / "run", expression_faces, cpu, resume=True)


def test_data_that_cannot_be_trained_on_is_refused(
    tmp_path: Path, expression_faces: LabelledFaces, cpu: Device
) -> None:
    chosen = expression_faces.of_usage("Training")
    with pytest.raises(DatasetError, match="no images for PublicTest"):
        start(tmp_path / "run", chosen, cpu)
    with pytest.raises(DatasetError, match="smaller than a batch: expected 32, got 14"):
        ExpressionTrainer(SHORT, expression_faces.of_usage("PublicTest"), cpu)
    unlabelled = dataclasses.replace(chosen, labels=np.full(len(chosen), -1))
    with pytest.raises(DatasetError, match="without a class"):
        ExpressionTrainer(SHORT, unlabelled, cpu)


def test_a_loss_that_is_no_number_stops_the_run(expression_faces: LabelledFaces, cpu: Device) -> None:
    trainer = ExpressionTrainer(SHORT, expression_faces, cpu)
    with torch.no_grad():
        next(trainer.network.parameters()).fill_(float("nan"))
    trainer.run_step()
    with pytest.raises(TrainingDivergedError, match="diverged at image 32"):
        trainer.take_moments()


def test_the_rate_rises_stays_and_falls_to_zero() -> None:
    config = FER_COMPACT
    rates = [config.rate_at(seen) for seen in range(0, config.total_images, config.batch)]
    assert rates[0] < 0.01 * config.learning_rate
    assert config.rate_at(config.warmup_images) == config.learning_rate
    assert config.rate_at(config.decay_start_images) == config.learning_rate
    assert rates[-1] < 0.001 * config.learning_rate
    assert config.rate_at(config.total_images) == 0.0
    assert {config.side_at(0), config.side_at(config.decay_start_images)} == {32, 44}


@pytest.mark.parametrize("config", PRESETS.values(), ids=PRESETS)
def test_a_configuration_survives_json(config: object) -> None:
    assert isinstance(config, type(TINY))
    assert from_json(to_json(config)) == config
    with pytest.raises(ConfigError, match="unknown"):
        from_json(json.dumps(json.loads(to_json(config)) | {"more": 1}))


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"batch": 1}, "batch size: expected 2..4096, got 1"),
        ({"total_images": 8}, "at least one batch of 32, got 8"),
        ({"decay_share": 0.0}, "decay share"),
        ({"small_crop": 23}, "side of the first views: expected 16..22, got 23"),
    ],
)
def test_values_out_of_range_are_refused(changes: dict[str, float], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        dataclasses.replace(TINY, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"crop": 25}, "crop <= resolution"),
        ({"widths": ()}, "widths of the classifier"),
        ({"hidden": 4096}, "widths of the classifier"),
        ({"dropout": 1.0}, "dropout"),
        ({"widths": (8, 8, 8, 8, 8, 8)}, "too many halvings"),
    ],
)
def test_networks_that_cannot_be_are_refused(changes: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        dataclasses.replace(TINY.classifier, **changes)  # type: ignore[arg-type]


def test_the_network_has_the_papers_head_and_a_shipping_size() -> None:
    network = ExpressionClassifier(FER_COMPACT.classifier).eval()
    features = network.trunk(torch.zeros(1, 1, 44, 44))
    assert features.shape == (1, 512, 6, 6)
    pooled = network.head[0](network.module(features))
    assert torch.allclose(pooled, torch.nn.functional.avg_pool2d(network.module(features), 2))
    assert parameter_count(network) < 1_100_000
    assert network(torch.zeros(2, 1, 44, 44)).shape == (2, 7)


def test_augmentation_is_drawn_from_its_generator_alone_and_keeps_the_size() -> None:
    images = standardize(torch.rand(16, 1, 24, 24) * 255)

    def once(seed: int, side: int = 22) -> torch.Tensor:
        return augment(images, TINY, torch.Generator().manual_seed(seed), side=side)

    assert once(1).shape == (16, 1, 22, 22)
    assert once(1, side=16).shape == (16, 1, 16, 16)
    assert torch.equal(once(1), once(1))
    assert not torch.equal(once(1), once(2))


def test_augmentation_without_amounts_is_the_central_crop_or_its_mirror() -> None:
    still = dataclasses.replace(TINY, rotation_degrees=0.0, zoom=0.0, shift_pixels=0.0, erase_share=0.0)
    images = standardize(torch.rand(32, 1, 24, 24) * 255)
    views = augment(images, still, torch.Generator().manual_seed(0), side=22)
    crop = centre_crop(images, 22)
    plain = (views - crop).abs().amax((1, 2, 3)) < 1e-4
    mirrored = (views - crop.flip(3)).abs().amax((1, 2, 3)) < 1e-4
    assert bool((plain ^ mirrored).all())
    assert 4 < int(plain.sum()) < 28


def test_views_show_a_little_less_and_all_of_the_image_and_their_mirrors() -> None:
    config = TINY.classifier
    images = torch.zeros(1, 1, config.resolution, config.resolution)
    images[:, :, 0, 0] = 1.0  # outside of the crop, so in the view of everything alone
    images[:, :, 1, 2] = 2.0  # at the edge of the crop
    near, near_mirror, crop, crop_mirror, whole, whole_mirror = shown = views(images, config)
    assert all(view.shape == (1, 1, config.crop, config.crop) for view in shown)
    assert torch.equal(crop, centre_crop(images, config.crop))
    assert (float(near.max()), float(crop.max())) == (0.0, 2.0)
    assert float(whole[0, 0, 0, 0]) > 0.0
    for view, mirror in ((near, near_mirror), (crop, crop_mirror), (whole, whole_mirror)):
        assert torch.equal(view.flip(3), mirror)


def test_a_classifier_that_crops_nothing_has_one_view_and_its_mirror() -> None:
    config = dataclasses.replace(TINY.classifier, crop=TINY.classifier.resolution)
    assert len(views(torch.zeros(1, 1, config.resolution, config.resolution), config)) == 2


def test_predictions_are_probabilities_and_do_not_depend_on_mirror_or_threads(
    expression_run: Path, expression_faces: LabelledFaces, cpu: Device
) -> None:
    module = load_classifier(expression_run).module
    found = predict(module, expression_faces.images, cpu)
    assert np.allclose(found.sum(1), 1.0, atol=1e-5)
    mirrored = predict(module, np.ascontiguousarray(expression_faces.images[:, :, ::-1]), cpu)
    assert np.allclose(found, mirrored, atol=1e-5)
    torch.set_num_threads(2)
    again = predict(module, expression_faces.images, cpu)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)
    assert hashlib.sha256(again.tobytes()).digest() == hashlib.sha256(found.tobytes()).digest()
    with pytest.raises(DatasetError, match=r"expected \(N, 24, 24\)"):
        predict(module, np.zeros((1, 48, 48), dtype=np.uint8), cpu)
