import numpy as np

from facechain.gan.metrics import codec
from facechain.gan.metrics.codec import measure_codec
from support.faces import made_faces


def test_times_and_sizes_are_of_the_images_that_were_coded() -> None:
    faces = made_faces(people=8, per_person=4).images
    told = measure_codec(faces)
    assert told.images == len(faces)
    assert min(told.png_encode_ms, told.png_decode_ms, told.commit_ms) > 0
    noise = measure_codec(np.random.default_rng(0).integers(256, size=faces.shape, dtype=np.uint8))
    flat = measure_codec(np.zeros_like(faces))
    assert flat.png_bytes < told.png_bytes <= noise.png_bytes
    assert noise.png_bytes > faces[0].size  # noise does not compress


def test_no_more_images_are_coded_than_a_mean_needs() -> None:
    images = np.zeros((codec.IMAGES_MAX + 5, 4, 4, 3), dtype=np.uint8)
    assert measure_codec(images).images == codec.IMAGES_MAX
