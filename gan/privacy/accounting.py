"""What a private training costs: Opacus' accountants for the Poisson-sampled Gaussian mechanism.

The PRV accountant's upper bound counts; the RDP accountant, which is never tighter, cross-checks it. Owns
no privacy analysis of its own.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import numpy as np
import opacus
from opacus.accountants import PRVAccountant, RDPAccountant
from opacus.accountants.utils import get_noise_multiplier

from ..config import PrivacyConfig
from ..errors import PrivacyError

ACCOUNTANT = f"opacus {opacus.__version__} PRV, upper bound"
MAX_SAMPLE_RATE = 0.5
"""Poisson sampling amplifies little beyond, and small data sets should be refused rather than flattered."""
EPSILON_ERROR = 0.01
"""Precision of the PRV accountant; contained in its upper bound."""
RDP_LOOSENESS = 0.7
"""The noise that the PRV accountant asks for is between so much of what RDP asks for and all of it."""
NOISE_HALVINGS = 6
"""Halvings of that interval: the noise is at most half a percent above the least."""
DISAGREEMENT = 0.02
"""Relative slack when the two accountants are compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mechanism:
    """One step: each record is in with probability `sample_rate`, then Gaussian noise is added."""

    noise_multiplier: float
    sample_rate: float
    delta: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """ε after a number of steps, by both accountants."""

    prv: float
    rdp: float


def sample_rate(*, batch: int, records: int) -> float:
    """Probability of one record to be in a step whose expected size is `batch`.

    Raises:
        PrivacyError: the data set is too small for this batch.
    """
    if batch > MAX_SAMPLE_RATE * records:
        raise PrivacyError(
            "too few records to train on privately",
            expected=f"at least {math.ceil(batch / MAX_SAMPLE_RATE)} for a batch of {batch}",
            got=str(records),
            hint="use more data or a smaller batch",
        )
    return batch / records


def check_delta(delta: float, *, records: int) -> None:
    """Refuse a δ with which giving away one whole record would count as private."""
    if delta * records >= 1:
        raise PrivacyError(
            "privacy.delta", expected=f"below 1/{records}, the number of records", got=f"{delta:g}"
        )


@cache
def spending(mechanism: Mechanism, steps: int) -> Spending:
    """ε of `steps` steps at the mechanism's δ.

    Raises:
        PrivacyError: the tight accountant gives more than the loose one, so one of them is wrong.
    """
    if steps == 0:
        return Spending(prv=0.0, rdp=0.0)
    history = [(mechanism.noise_multiplier, mechanism.sample_rate, steps)]
    tight, loose = PRVAccountant(), RDPAccountant()
    tight.history, loose.history = list(history), list(history)
    with _undisturbed():
        prv = float(tight.get_epsilon(mechanism.delta, eps_error=EPSILON_ERROR))
        rdp = float(loose.get_epsilon(mechanism.delta))
    if not prv <= rdp * (1 + DISAGREEMENT) + 2 * EPSILON_ERROR:
        raise PrivacyError(
            "the accountants disagree", expected=f"PRV at most RDP's {rdp:.4f}", got=f"{prv:.4f}"
        )
    return Spending(prv=prv, rdp=rdp)


def least_noise(config: PrivacyConfig, *, rate: float, steps: int) -> float:
    """Noise multiplier with which `steps` steps just stay within the budget.

    Raises:
        PrivacyError: no noise is enough.
    """
    with _undisturbed():
        try:
            enough = get_noise_multiplier(
                target_epsilon=config.epsilon,
                target_delta=config.delta,
                sample_rate=rate,
                steps=steps,
                accountant="rdp",
            )
        except ValueError as error:
            raise PrivacyError("no noise keeps to the budget", got=str(error)) from error
    high, low = float(enough), float(enough) * RDP_LOOSENESS
    for _ in range(NOISE_HALVINGS):
        middle = (low + high) / 2
        tried = Mechanism(noise_multiplier=middle, sample_rate=rate, delta=config.delta)
        if spending(tried, steps).prv <= config.epsilon:
            high = middle
        else:
            low = middle
    return high


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Without what the accountants say about steps on their way: log(0) for densities that are 0, a loose RDP order."""
    with np.errstate(divide="ignore", over="ignore"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Optimal order is the")
        yield


def steps_within(mechanism: Mechanism, *, epsilon: float, at_most: int) -> int:
    """Largest number of steps up to `at_most` whose ε does not exceed the budget."""
    if spending(mechanism, at_most).prv <= epsilon:
        return at_most
    within, beyond = 0, at_most
    while beyond - within > 1:
        middle = (within + beyond) // 2
        if spending(mechanism, middle).prv <= epsilon:
            within = middle
        else:
            beyond = middle
    return within
