"""How many seeds the simulations run with: few in the suite, as many as asked for by hand."""

import pytest


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "simulation_seed" in metafunc.fixturenames:
        metafunc.parametrize("simulation_seed", range(1, 1 + metafunc.config.getoption("--seeds")))
