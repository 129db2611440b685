"""Names and numbers on the wire."""

from __future__ import annotations

from facechain.consensus.kinds import Kind, Role, RoleAction, StageType


def test_labels_are_the_names_in_documents() -> None:
    assert [kind.label for kind in Kind] == [
        "image-batch",
        "stage",
        "role-proposal",
        "role-approval",
        "key-rotate",
        "view-grant",
        "retract",
        "attestation",
        "checkpoint",
        "cancel",
        "protocol-upgrade",
    ]
    assert [role.label for role in Role] == ["admin", "producer", "submitter", "viewer"]
    assert StageType.FILTER.label == "filter"
    assert RoleAction.REVOKE.label == "revoke"


def test_numbers_are_dense_from_one() -> None:
    for numbers in (Kind, Role, StageType, RoleAction):
        assert [int(item) for item in numbers] == list(range(1, len(numbers) + 1))
