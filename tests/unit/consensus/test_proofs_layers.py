"""Each layer of the walk by what it says: what passes, what fails and with which words."""

from dataclasses import replace
from functools import cache

import pytest

from facechain.consensus.block import Header, SealedHeader, seal_header
from facechain.consensus.errors import DecodeError
from facechain.consensus.evidence import CheckpointProof, Evidence, StatementProof
from facechain.consensus.image import decode_image, file_hash, pixel_hash
from facechain.consensus.kinds import PERMISSIONS, Kind, Role
from facechain.consensus.kv import Bucket
from facechain.consensus.params import Retarget
from facechain.consensus.proofs import LAYERS, Status, Subject, Verdict, read_checkpoint, verify_evidence
from facechain.consensus.retarget import fixed_bits
from facechain.consensus.state import CHECKPOINT_KEY, prove_entry, prove_history, role_key
from facechain.consensus.state_proof import EntryProof
from facechain.consensus.statement import Statement, sign_statement
from facechain.consensus.work import target_to_bits
from facechain.node.evidence import build_evidence
from support.chain import PRODUCER, STRANGER, SUBMITTER, make_genesis, make_stage, seed, solve
from support.registry import Registered, make_png, register

FILES = [make_png(number) for number in range(3)]
SUBJECT = Subject(pixel_hash=pixel_hash(decode_image(FILES[1])), file_hash=file_hash(FILES[1]))


@cache
def registered() -> Registered:
    return register(FILES)


def evidence_of(chain: Registered) -> Evidence:
    assert SUBJECT.pixel_hash is not None
    with chain.chain.snapshot() as snapshot:
        place = snapshot.claims_of_pixels(SUBJECT.pixel_hash, limit=1)[0]
        return Evidence.decode(build_evidence(snapshot, place))


@cache
def good() -> Evidence:
    return evidence_of(registered())


def walk(evidence: Evidence, subject: Subject = SUBJECT) -> Verdict:
    return verify_evidence(
        Evidence.decode(evidence.encode()), network_id=registered().chain.network_id, subject=subject
    )


def row(verdict: Verdict, name: str) -> tuple[Status, str]:
    layer = verdict.layers[LAYERS.index(name)]
    assert layer.name == name
    return layer.status, layer.detail


def refusal(evidence: Evidence, subject: Subject = SUBJECT) -> tuple[str, str]:
    """Return the layer that fails and what it says; nothing after it was walked."""
    verdict = walk(evidence, subject)
    failure = verdict.failure
    assert failure is not None
    assert not verdict.is_verified
    assert not verdict.is_recoded
    after = verdict.layers[LAYERS.index(failure.name) + 1 :]
    assert {(layer.status, layer.detail) for layer in after} <= {(Status.SKIPPED, "a layer before it failed")}
    return failure.name, failure.detail


def resealed(sealed: SealedHeader, *, mined: bool = True, **changes: object) -> SealedHeader:
    """Return a header with changes, sealed by the producer's own key."""
    header: Header = replace(sealed.header, **changes)  # type: ignore[arg-type]
    return seal_header(PRODUCER, registered().chain.network_id, solve(header) if mined else header)


def sealed_by_a_stranger(sealed: SealedHeader) -> SealedHeader:
    header = replace(sealed.header, producer=STRANGER.public)
    return seal_header(STRANGER, registered().chain.network_id, solve(header))


def entry(bucket: Bucket, key: bytes) -> EntryProof:
    """Return what the newest state of the chain holds, with its proof."""
    with registered().chain.snapshot() as chain:
        return EntryProof(value=chain.reader.get(bucket, key), proof=prove_entry(chain.reader, bucket, key))


def strangers_roles() -> tuple[EntryProof, ...]:
    roles = sorted(PERMISSIONS[Kind.IMAGE_BATCH])
    return tuple(entry(Bucket.ROLES, role_key(role, STRANGER.public)) for role in roles)


# -- what passes


def test_every_layer_says_what_it_checked() -> None:
    batch, block = registered().batch, good().blocks[0].sealed
    header, record = batch.header.batch, good().record.record
    assert header is not None
    verdict = walk(good())
    assert {layer.status for layer in verdict.layers} == {Status.PASSED}
    assert not verdict.is_recoded
    details = [layer.detail for layer in verdict.layers]
    anchor = good().anchor
    assert details == [
        f"SHA-256 {file_hash(FILES[1]).hex()}",
        f"pixel hash {record[:32].hex()}",
        "record 1 of 3",
        f"records root {header.records_root.hex()}",
        f"signed by {SUBMITTER.public.hex()}",
        "submitter at height 2",
        "statement 0 of 1",
        f"block 2 {block.hash.hex()}, sealed by {PRODUCER.public.hex()}",
        "2 hashes expected for the block, 3 headers checked",
        (
            f"confirmations 3, tip 4 {anchor.hash.hex()}, checkpoint at height 2; "
            f"network {registered().chain.network_id.hex()} (the trusted network)"
        ),
        "4 statements about it",
    ]


def test_without_an_image_its_layers_are_skipped() -> None:
    verdict = verify_evidence(good())
    assert verdict.is_verified
    assert not verdict.is_recoded
    assert row(verdict, "file bytes") == (Status.SKIPPED, "no file given")
    assert row(verdict, "pixels") == (Status.SKIPPED, "no pixels given")
    assert row(verdict, "chain")[1].endswith("(no trusted network given)")


def test_same_pixels_in_another_file_are_a_recoded_copy() -> None:
    verdict = walk(good(), replace(SUBJECT, file_hash=seed("another file")))
    assert verdict.is_verified
    assert verdict.is_recoded
    known = file_hash(FILES[1]).hex()
    assert row(verdict, "file bytes") == (
        Status.DIFFERS,
        f"another file: registered {known}, got {seed('another file').hex()}",
    )


def test_batch_in_the_newest_block() -> None:
    """The anchor itself holds the batch: it has no path in its own history, and there is no checkpoint yet."""
    fresh = register(FILES, blocks_after=0)
    verdict = verify_evidence(evidence_of(fresh), network_id=fresh.chain.network_id, subject=SUBJECT)
    assert verdict.is_verified
    assert row(verdict, "chain")[1].startswith("confirmations 1, tip 2 ")
    assert ", no checkpoint; network " in row(verdict, "chain")[1]


def test_network_of_fixed_difficulty() -> None:
    genesis = make_genesis(retarget=Retarget.FIXED, fixed_digits=1)
    fixed = register(FILES, genesis=genesis)
    evidence = evidence_of(fixed)
    assert verify_evidence(evidence, network_id=fixed.chain.network_id, subject=SUBJECT).is_verified
    harder = replace(evidence.anchor.header, bits=fixed_bits(2))
    anchor = seal_header(PRODUCER, fixed.chain.network_id, solve(harder))
    verdict = verify_evidence(replace(evidence, anchor=anchor), subject=SUBJECT)
    assert row(verdict, "work") == (
        Status.FAILED,
        f"bits: expected {fixed_bits(1):#010x}, got {fixed_bits(2):#010x}",
    )


# -- the image, its record and its batch


def test_another_file_without_pixels_is_refused() -> None:
    known, given = file_hash(FILES[1]).hex(), seed("another file")
    assert refusal(good(), Subject(file_hash=given)) == (
        "file bytes",
        f"file: expected {known}, got {given.hex()}",
    )


def test_other_pixels_are_refused() -> None:
    given = seed("other pixels")
    assert refusal(good(), replace(SUBJECT, pixel_hash=given)) == (
        "pixels",
        f"pixel hash: expected {good().record.record[:32].hex()}, got {given.hex()}",
    )


def test_record_is_one_of_the_batch() -> None:
    changed = replace(good(), record=replace(good().record, index=3))
    assert refusal(changed) == ("record", "record index: expected below 3, got 3")


def test_statement_is_a_batch() -> None:
    stage = Statement(next(iter(registered().stages.values())).header_bytes, bytes(64), b"")
    changed = replace(good(), batch=replace(good().batch, statement=stage))
    assert refusal(changed) == ("record", "batch: expected an image-batch statement, got another kind")


def test_batch_comes_without_its_payload() -> None:
    batch = registered().batch
    loaded = Statement(batch.header_bytes, batch.signature, b"x")
    changed = replace(good(), batch=replace(good().batch, statement=loaded))
    assert refusal(changed) == ("signature", "batch: expected the signed header alone, got a payload with it")


def test_signature_is_the_authors() -> None:
    forged = Statement(registered().batch.header_bytes, bytes(64), b"")
    changed = replace(good(), batch=replace(good().batch, statement=forged))
    assert refusal(changed) == (
        "signature",
        f"signature: expected one by {SUBMITTER.public.hex()}, got another",
    )


# -- authority


def signed_by_a_stranger() -> StatementProof:
    """The same batch header, truly signed, by a key without a role."""
    batch = registered().batch
    payload = batch.decode_payload()
    copied = sign_statement(
        STRANGER,
        registered().chain.network_id,
        payload=payload,
        kind=Kind.IMAGE_BATCH,
        sequence=0,
        claimed_time_ms=0,
        valid_until_height=batch.header.valid_until_height,
        batch=batch.header.batch,
    )
    return replace(good().batch, statement=Statement(copied.header_bytes, copied.signature, b""))


def test_author_without_a_role() -> None:
    changed = replace(good(), batch=signed_by_a_stranger(), author_roles=strangers_roles())
    assert refusal(changed) == (
        "authority",
        "authority: expected role producer or submitter at height 2, got none",
    )


def test_author_borrows_no_role_of_another() -> None:
    changed = replace(good(), batch=signed_by_a_stranger())
    assert refusal(changed)[0] == "authority"


def test_every_role_of_the_author_is_shown() -> None:
    changed = replace(good(), author_roles=good().author_roles[:1])
    assert refusal(changed) == ("authority", "author roles: expected 2 entries, got 1")


def test_state_holds_this_batch_at_this_height() -> None:
    """The entry of another statement is a valid proof about something else."""
    stage = next(iter(registered().stages.values()))
    other = replace(good(), batch_entry=entry(Bucket.STAGES, stage.id))
    assert refusal(other)[0] == "authority"
    absent = replace(good(), batch_entry=replace(good().batch_entry, value=None))
    assert refusal(absent)[0] == "authority"


def test_batch_of_an_earlier_block_is_not_one_of_this_block() -> None:
    later = good().anchor
    changed = replace(good(), blocks=(replace(good().blocks[0], sealed=later), *good().blocks[1:]))
    name, detail = refusal(changed)
    assert name == "authority"
    assert detail.startswith("batch entry: expected this batch at height 4, got ")


# -- body, seals and ancestors


def test_batch_belongs_to_the_first_block() -> None:
    changed = replace(good(), batch=replace(good().batch, block=1))
    assert refusal(changed) == ("body root", "batch block: expected 0, got 1")


def test_body_root_covers_count_and_bytes() -> None:
    wanted = good().blocks[0].sealed.header.body_root.hex()
    for field in ("count", "byte_count"):
        value = getattr(good().batch, field) + 1
        name, detail = refusal(replace(good(), batch=replace(good().batch, **{field: value})))
        assert name == "body root"
        assert detail.startswith(f"body root: expected {wanted}, got ")


def with_first_block(sealed: SealedHeader, evidence: Evidence) -> Evidence:
    return replace(evidence, blocks=(replace(evidence.blocks[0], sealed=sealed), *evidence.blocks[1:]))


def test_sealer_without_the_role() -> None:
    role = entry(Bucket.ROLES, role_key(Role.PRODUCER, STRANGER.public))
    forged = sealed_by_a_stranger(good().blocks[0].sealed)
    changed = replace(with_first_block(forged, good()), sealer_role=role)
    assert refusal(changed) == (
        "header",
        f"seal: expected a producer at height 2, got {STRANGER.public.hex()}",
    )


def test_anchor_sealed_without_the_role() -> None:
    role = entry(Bucket.ROLES, role_key(Role.PRODUCER, STRANGER.public))
    changed = replace(good(), anchor=sealed_by_a_stranger(good().anchor), anchor_role=role)
    assert refusal(changed) == (
        "header",
        f"seal of the anchor: expected a producer at height 4, got {STRANGER.public.hex()}",
    )


def test_every_header_is_sealed() -> None:
    sealed = good().anchor
    changed = replace(good(), anchor=SealedHeader(sealed.header, bytes(64)))
    assert refusal(changed) == (
        "header",
        f"seal of block 4: expected one by {PRODUCER.public.hex()}, got another",
    )


def test_header_version_is_known() -> None:
    changed = replace(good(), anchor=resealed(good().anchor, version=9))
    assert refusal(changed)[0] == "header"
    assert refusal(changed)[1].startswith("header version: expected ")


def test_ancestors_are_as_many_as_the_median_needs() -> None:
    changed = replace(good(), ancestors=good().ancestors[1:])
    assert refusal(changed) == ("header", "ancestors: expected 2, got 1")


def test_ancestors_hang_together() -> None:
    zero, one = good().ancestors
    for line in ((zero, replace(one, time_ms=one.time_ms + 1)), (replace(zero, nonce=1), one)):
        name, detail = refusal(replace(good(), ancestors=line))
        assert name == "header"
        assert detail.startswith("ancestors: expected ")


# -- work and chain


def test_work_is_paid_for_by_each_header() -> None:
    unpaid = good().anchor.header
    while int.from_bytes(unpaid.hash, "big") >> 255 == 0:
        unpaid = unpaid.with_nonce(unpaid.nonce + 1)
    anchor = seal_header(PRODUCER, registered().chain.network_id, unpaid)
    assert refusal(replace(good(), anchor=anchor)) == (
        "work",
        f"work: expected below the target of {unpaid.bits:#010x}, got {unpaid.hash.hex()}",
    )


def test_target_is_not_above_the_networks() -> None:
    easier = target_to_bits((1 << 256) - 1)
    changed = replace(good(), anchor=resealed(good().anchor, bits=easier))
    limit = registered().builder.params.pow_limit_bits
    assert refusal(changed) == ("work", f"bits: expected at most {limit:#010x}, got {easier:#010x}")


def test_network_is_the_trusted_one() -> None:
    trusted = seed("a network")
    verdict = verify_evidence(good(), network_id=trusted, subject=SUBJECT)
    assert row(verdict, "chain") == (
        Status.FAILED,
        f"network: expected {trusted.hex()}, got {registered().chain.network_id.hex()}",
    )


def test_sub_roots_are_those_of_the_anchor() -> None:
    """Nothing else reads the part that is empty in this draft."""
    position = len(good().sub_roots) - 1
    changed = (*good().sub_roots[:position], seed("another part"))
    name, detail = refusal(replace(good(), sub_roots=changed))
    assert name == "chain"
    assert (
        detail == f"state root of the anchor: expected {good().anchor.header.state_root.hex()}, got another"
    )


def test_blocks_are_ancestors_of_the_anchor() -> None:
    changed = replace(good(), blocks=(replace(good().blocks[0], path=()), *good().blocks[1:]))
    assert refusal(changed)[0] == "chain"


def test_absent_checkpoint_has_no_path() -> None:
    fresh = register(FILES, blocks_after=0)
    evidence = evidence_of(fresh)
    with fresh.chain.snapshot() as chain:
        path = prove_history(chain.reader, 1)
    assert path
    changed = replace(evidence, checkpoint=CheckpointProof(entry=evidence.checkpoint.entry, path=path))
    verdict = verify_evidence(changed, subject=SUBJECT)
    assert row(verdict, "chain") == (
        Status.FAILED,
        f"checkpoint path: expected none, got {len(path)} hashes",
    )


def test_checkpoint_is_an_ancestor_of_the_anchor() -> None:
    changed = replace(good(), checkpoint=replace(good().checkpoint, path=()))
    assert refusal(changed)[0] == "chain"
    assert good().checkpoint.entry == entry(Bucket.PARAMETERS, CHECKPOINT_KEY)


def test_checkpoint_entry_has_one_length() -> None:
    assert read_checkpoint(bytes(7) + b"\x05" + seed("block")) == (5, seed("block"))
    for wrong in (b"", bytes(39), bytes(41)):
        with pytest.raises(
            DecodeError, match=f"^decode-error: checkpoint: expected 40 bytes, got {len(wrong)}"
        ):
            read_checkpoint(wrong)


# -- provenance


def with_statement(proof: StatementProof) -> Evidence:
    return replace(good(), statements=(proof, *good().statements[1:]))


def test_statements_name_a_block_that_is_there() -> None:
    blocks = len(good().blocks)
    changed = with_statement(replace(good().statements[0], block=blocks))
    assert refusal(changed) == ("provenance", f"statement block: expected below {blocks}, got {blocks}")


def test_statements_come_with_their_own_payload_and_signature() -> None:
    proof = good().statements[0]
    true = proof.statement
    swapped = Statement(true.header_bytes, true.signature, make_stage(name="another").encode())
    assert refusal(with_statement(replace(proof, statement=swapped))) == (
        "provenance",
        f"payload: expected {true.header.payload_hash.hex()}, got another",
    )
    unsigned = Statement(true.header_bytes, bytes(64), true.payload)
    assert refusal(with_statement(replace(proof, statement=unsigned))) == (
        "provenance",
        f"signature of a stage: expected {SUBMITTER.public.hex()}, got another",
    )


def test_statements_stand_in_their_block() -> None:
    proof = good().statements[0]
    changed = with_statement(replace(proof, index=(proof.index + 1) % proof.count))
    assert refusal(changed)[0] == "provenance"


def test_named_stages_are_there() -> None:
    header = registered().batch.header.batch
    assert header is not None
    for wanted in (header.model, header.clustering, header.filter):
        left = tuple(proof for proof in good().statements if proof.statement.id != wanted)
        assert refusal(replace(good(), statements=left)) == (
            "provenance",
            f"provenance: expected stage {wanted.hex()}, got nothing",
        )
