"""Errors of the producer: each says what was expected, what was got and what to do."""

from __future__ import annotations

FAILED = 2
USAGE = 3
REFUSED = 5

GOT_CHARACTERS_MAX = 300
"""What was got is shown up to here: a file may hold anything."""


class ProducerError(Exception):
    """Base of everything the producer raises on purpose.

    Args:
        message: what went wrong, in one line.
        expected: what would have been right.
        got: what was there instead.
        hint: what to do about it.
    """

    exit_code = USAGE
    """What a command that ends with this error tells the shell."""

    def __init__(self, message: str, *, expected: str = "", got: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.expected = expected
        self.got = got if len(got) <= GOT_CHARACTERS_MAX else got[:GOT_CHARACTERS_MAX] + "…"
        self.hint = hint

    def __str__(self) -> str:
        return self.diagnostics()

    def diagnostics(self) -> str:
        """One line for people: `message: expected …, got …; hint`."""
        pairs = (("expected", self.expected), ("got", self.got))
        comparison = ", ".join(f"{word} {value}" for word, value in pairs if value)
        line = ": ".join(part for part in (self.message, comparison) if part)
        return "; ".join(part for part in (line, self.hint) if part)


class DatasetError(ProducerError):
    """A data set is missing, empty, or holds something that is no image."""


class ConfigError(ProducerError):
    """A configuration value is unknown or out of range."""


class MissingPackageError(ConfigError):
    """An optional package is not installed; the hint says which extra installs it."""

    exit_code = REFUSED


class CheckpointError(ProducerError):
    """A checkpoint is missing, damaged, or belongs to another network."""


class TrainingDivergedError(ProducerError):
    """A loss or weight stopped being a finite number."""

    exit_code = FAILED


class FilterError(ProducerError):
    """The release filter cannot be built or calibrated."""


class PrivacyError(ProducerError):
    """A privacy guarantee or measurement is not to be had as asked."""

    exit_code = REFUSED


class StageError(ProducerError):
    """A stage record breaks a limit or refers to a step that is not there."""


class StoreError(ProducerError):
    """An image store refused, lost or altered an object."""

    exit_code = REFUSED


class BatchFolderError(ProducerError):
    """A produced batch folder cannot be written or is inconsistent."""


class ReportError(ProducerError):
    """What a report is made of is missing or damaged."""
