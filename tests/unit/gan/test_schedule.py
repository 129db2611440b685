from dataclasses import replace

from facechain.gan.presets import PPSA_PLUS, R3_ATTN_32
from facechain.gan.schedule import settings_at


def test_values_move_in_straight_lines_and_stay() -> None:
    start, middle, end, later = (settings_at(R3_ATTN_32, 2_000_000 * share) for share in (0, 1, 2, 3))
    assert (start.learning_rate, start.betas, start.penalty_weight) == (2e-4, (0.0, 0.9), 2.0)
    assert (round(middle.learning_rate, 9), round(middle.betas[1], 9)) == (1.25e-4, 0.945)
    assert round(middle.penalty_weight, 9) == 1.1
    assert (round(end.learning_rate, 9), round(end.betas[1], 9), round(end.penalty_weight, 9)) == (
        5e-5,
        0.99,
        0.2,
    )
    assert later == end


def test_without_a_length_of_its_own_the_schedule_lasts_as_long_as_the_run() -> None:
    short = replace(PPSA_PLUS, total_images=1_000)
    assert settings_at(short, 500).learning_rate == (2e-4 + 5e-5) / 2
    assert settings_at(short, 500).betas == (0.0, 0.99)
