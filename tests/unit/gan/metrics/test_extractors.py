from pathlib import Path

import numpy as np
import pytest
import torch
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from facechain.gan.errors import ConfigError
from facechain.gan.metrics.extractors import INCEPTION_FILE, DlibFace, InceptionV3, open_network
from support.faces import made_faces

IMAGES = made_faces(people=3, per_person=1, side=32).images


class Untrained(FeatureExtractorInceptionV3):  # type: ignore[misc]
    """The network without weights, to make a file of its shape."""

    def load_state_dict(self, *_: object, **__: object) -> None:
        """Keep what was drawn."""


@pytest.fixture(scope="module")
def drawn_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("inception") / "drawn.pth"
    torch.save({}, path)
    torch.manual_seed(0)
    torch.save(Untrained("x", ["2048"], feature_extractor_weights_path=str(path)).state_dict(), path)
    return path


def test_inception_of_other_weights_bears_their_hash_and_not_the_canonical_name(drawn_weights: Path) -> None:
    network = InceptionV3(drawn_weights)
    assert not network.canonical
    assert network.name == f"inception_{network.weights_sha256[:8]}"
    seen: list[int] = []
    found = network.features(IMAGES, seen.append)
    assert found.pooled.shape == (3, 2048)
    assert found.logits is not None
    assert found.logits.shape == (3, 1008)
    assert seen == [3]
    assert np.array_equal(found.pooled, network.features(IMAGES).pooled)


def test_canonical_weights_are_taken_from_the_cache_and_never_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(ConfigError, match="nothing is downloaded"):
        open_network("inception")
    cached = tmp_path / "hub/checkpoints" / INCEPTION_FILE
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b"no weights")
    with pytest.raises(ConfigError, match="not weights of Inception"):
        open_network("inception")


def test_weights_that_would_run_code_are_refused(tmp_path: Path) -> None:
    class Runs:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"fc.weight": Runs()}, tmp_path / "bad.pth")
    with pytest.raises(ConfigError, match="not weights"):
        InceptionV3(tmp_path / "bad.pth")
    assert not (tmp_path / "ran").exists()


def test_the_face_embedding_is_nearer_for_an_image_than_for_another() -> None:
    network = DlibFace()
    darker = (IMAGES[:1] * 0.9).astype(np.uint8)
    found = network.features(np.concatenate([IMAGES, darker])).pooled
    assert found.shape == (4, 128)
    assert np.linalg.norm(found[0] - found[3]) < np.linalg.norm(found[0] - found[1])
    assert (network.name, network.canonical) == ("dlib_face", False)


def test_an_unknown_network_is_refused() -> None:
    with pytest.raises(ConfigError, match="efficientnet-lite0, inception, dlib-face"):
        open_network("vgg")
