import numpy as np
import pytest

from facechain.gan.evaluation import extract_features, frechet_distance, open_extractor
from support.faces import made_faces


def test_distance_of_a_set_to_itself_is_zero() -> None:
    features = np.random.default_rng(0).normal(size=(200, 6))
    assert frechet_distance(features, features) == pytest.approx(0, abs=1e-8)


def test_distance_of_shifted_and_scaled_gaussians_is_the_closed_form() -> None:
    features = np.random.default_rng(0).normal(size=(500, 3))
    variances = np.cov(features, rowvar=False).trace()
    found = frechet_distance(features, features * 2 + np.array([3.0, 0, 0]))
    shift = features.mean(axis=0) - (features * 2 + np.array([3.0, 0, 0])).mean(axis=0)
    assert found == pytest.approx(float(shift @ shift) + float(variances), rel=1e-6)


def test_features_of_real_weights_tell_noise_from_structure() -> None:
    extractor = open_extractor()
    images = made_faces(people=12, per_person=1, side=32).images
    noise = np.random.default_rng(0).integers(0, 256, images.shape).astype(np.uint8)
    features = extract_features(extractor, images)
    assert features.shape == (12, 1280)
    assert np.array_equal(features, extract_features(extractor, images))
    assert frechet_distance(features, extract_features(extractor, noise)) > 10
    assert len(extractor.weights_sha256) == 64
