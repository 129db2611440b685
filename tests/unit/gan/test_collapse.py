import numpy as np
import pytest

from facechain.gan.collapse import CollapseWatch, variety
from facechain.gan.errors import TrainingDivergedError
from support.faces import made_faces

REAL = made_faces(people=16, per_person=2).images
ONE_FACE = np.repeat(REAL[:1], 32, axis=0)


def test_variety_is_the_mean_deviation_between_images() -> None:
    pair = np.stack([np.full((2, 2, 3), 10, np.uint8), np.full((2, 2, 3), 30, np.uint8)])
    assert variety(pair) == 10
    assert variety(ONE_FACE) == 0


def test_the_same_face_at_two_checkpoints_in_a_row_ends_the_run() -> None:
    watch = CollapseWatch(variety(REAL), grace_images=100)
    assert watch.look(ONE_FACE, images_seen=100) == 0
    assert watch.look(ONE_FACE, images_seen=101) == 0
    with pytest.raises(TrainingDivergedError, match="collapsed by image 102"):
        watch.look(ONE_FACE, images_seen=102)


def test_one_checkpoint_that_recovers_is_forgiven() -> None:
    watch = CollapseWatch(variety(REAL), grace_images=0)
    watch.look(ONE_FACE, images_seen=1)
    assert 0.5 < watch.look(REAL[::2], images_seen=2) < 1.5
    watch.look(ONE_FACE, images_seen=3)
