"""Every way in which something can be refused, by name.

Owns the table of rules (`RULES`) and the exceptions that carry them. It decides nothing: the modules that
check raise these, and the node reads `permanent`, `punish` and `cacheable` to choose what happens next.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One named rule of the protocol.

    `permanent`: False when the same object may become valid later (time passes, a parent arrives).
    `punish`: whether handing over the offending object costs a peer its standing. Rules that an honest peer
    breaks in a race (a sequence number used up meanwhile, an expiry) are not punished.
    `cacheable`: whether the failure, found in a block, is a property of its hash. A seal or a body that does not
    match says nothing about the hash it came with, so it must never be remembered against it. A statement that is
    refused alone is never remembered by its id: sequences, references and roles change with the chain.
    """

    code: str
    permanent: bool
    punish: bool
    cacheable: bool
    summary: str


def _rule(code: str, summary: str, *, punish: bool = True, cacheable: bool = True) -> Rule:
    return Rule(code=code, permanent=True, punish=punish, cacheable=cacheable, summary=summary)


def _temporary(code: str, summary: str) -> Rule:
    return Rule(code=code, permanent=False, punish=False, cacheable=False, summary=summary)


_ALL: Final = (
    # headers
    _rule("high-hash", "the header's hash is not below its target"),
    _rule("bad-diffbits", "the bits are not the ones that the retarget rule gives"),
    _rule("time-too-old", "the header's time is not after the median time past"),
    _temporary("time-too-new", "the header's time is too far ahead of this node's clock"),
    _rule("bad-prevblk", "the previous block is invalid, or not the one named"),
    _temporary("missing-parent", "the previous block is not known here yet"),
    _rule("bad-height", "the height is not the parent's height plus one"),
    _temporary("unknown-version", "the header's version is not one that this node knows"),
    _rule("bad-version", "the header's version is not in force at this height"),
    _rule("bad-seal", "the seal is not the producer's signature over the header", cacheable=False),
    _rule("unauthorized-producer", "the sealing key is no producer under the parent's state"),
    _rule("producer-share", "the key sealed more of the last blocks than the share allows"),
    _rule(
        "below-checkpoint", "the chain forks off below an accepted checkpoint", punish=False, cacheable=False
    ),
    _rule("max-reorg", "the reorganisation is deeper than this node allows", punish=False, cacheable=False),
    # bodies
    _rule("bad-merkle-root", "the body does not hash to the header's body root", cacheable=False),
    _rule("bad-state-root", "the state after the block is not the one that the header commits to"),
    _rule("oversized", "a size limit of the network is exceeded"),
    _rule("too-many-statements", "the body holds more statements than the limit"),
    _rule("author-quota", "one author fills more of the block than the limit", punish=False),
    _rule("early-heartbeat", "an empty block comes before the heartbeat interval is over"),
    # statements
    _rule("bad-signature", "the signature does not verify under the author's key", cacheable=False),
    _rule("unauthorized-author", "no role of the author allows this kind of statement", punish=False),
    _rule("bad-sequence", "the sequence number is not the author's next one", punish=False),
    _rule("expired-statement", "the statement's last valid height is past", punish=False),
    _rule("bad-payload", "the payload breaks a rule of its kind"),
    _rule("payload-mismatch", "the payload does not hash to the header's payload hash", cacheable=False),
    _rule("state-conflict", "what the payload asks for does not fit the state of this chain", punish=False),
    _rule("unknown-reference", "a statement named as input is not on this chain", punish=False),
    _rule("unknown-proposal", "the approved proposal is not open on this chain", punish=False),
    _rule("duplicate-approval", "this administrator approved the proposal already", punish=False),
    _rule("last-admin", "the change would leave fewer administrators than the quorum", punish=False),
)

RULES: Final[Mapping[str, Rule]] = MappingProxyType({rule.code: rule for rule in _ALL})
"""Every rule by its code."""


class ConsensusError(Exception):
    """Something was refused: `code` names the reason, `message` says expected, got and what to do."""

    def __init__(self, code: str, message: str) -> None:
        """Keep the machine-readable `code` and the human `message`."""
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return self.diagnostics()

    def diagnostics(self) -> str:
        """Return `code: message` on one line."""
        return " ".join(f"{self.code}: {self.message}".split())


def _compare(what: str, expected: object, got: object) -> str:
    return f"{what}: expected {expected}, got {got}"


class DecodeError(ConsensusError):
    """Bytes that are not the one canonical form of what they should hold. Always permanent."""

    def __init__(self, what: str, *, expected: object, got: object) -> None:
        """`what` names the structure or field."""
        super().__init__("decode-error", _compare(what, expected, got))
        self.what = what
        self.expected = expected
        self.got = got


class ProofError(ConsensusError):
    """A proof that does not lead from what it is about to the root it is checked against."""

    def __init__(self, what: str, *, expected: object, got: object) -> None:
        """`what` names the proof or the part of it that fails."""
        super().__init__("bad-proof", _compare(what, expected, got))
        self.what = what
        self.expected = expected
        self.got = got


class RuleViolation(ConsensusError):
    """A permanent rule is broken: the object will never be valid on this chain."""

    permanent = True

    def __init__(self, rule: Rule | str, *, expected: object, got: object) -> None:
        """Raise KeyError when `rule` is not in the table, ValueError when it belongs to the other class."""
        self.rule = RULES[rule.code if isinstance(rule, Rule) else rule]
        if self.rule.permanent is not self.permanent:
            raise ValueError(
                f"{self.rule.code}: expected the class for permanent={self.rule.permanent} rules"
            )
        super().__init__(self.rule.code, _compare(self.rule.summary, expected, got))
        self.expected = expected
        self.got = got


class Temporary(RuleViolation):
    """A rule is not met yet. Never punished, never remembered; the same object may be offered again."""

    permanent = False
