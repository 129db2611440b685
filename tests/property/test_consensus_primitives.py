"""What must hold for every input: trees against brute force, deltas against their inverse, bits both ways."""

from __future__ import annotations

import hashlib
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facechain.consensus import history, merkle, sparse
from facechain.consensus.errors import DecodeError, ProofError
from facechain.consensus.kv import Bucket, Delta, Overlay
from facechain.consensus.work import MAX_TARGET, bits_to_target, target_to_bits
from support.nodes import DictNodes

HASHES = st.binary(min_size=32, max_size=32)
# Few different bytes at few places, so that long shared prefixes and collisions are common.
CLOSE_KEYS = st.builds(
    lambda first, last: bytes([first]) + bytes(30) + bytes([last]),
    st.sampled_from([0, 1, 2, 128, 255]),
    st.sampled_from([0, 1, 2, 3, 128]),
)
CHANGES = st.dictionaries(CLOSE_KEYS | HASHES, st.none() | st.binary(max_size=3), max_size=8)


def _model_root(entries: dict[bytes, bytes], depth: int = 0) -> bytes:
    if not entries:
        return bytes(32)
    if len(entries) == 1:
        ((key, value),) = entries.items()
        return hashlib.sha256(b"\0" + key + hashlib.sha256(value).digest()).digest()
    sides: tuple[dict[bytes, bytes], dict[bytes, bytes]] = ({}, {})
    for key, value in entries.items():
        sides[key[depth // 8] >> (7 - depth % 8) & 1][key] = value
    return hashlib.sha256(
        b"\1" + _model_root(sides[0], depth + 1) + _model_root(sides[1], depth + 1)
    ).digest()


@given(batches=st.lists(CHANGES, max_size=6), probe=CLOSE_KEYS)
@settings(deadline=None, max_examples=150)
def test_sparse_tree_depends_on_contents_only(batches: list[dict[bytes, bytes | None]], probe: bytes) -> None:
    nodes, model = DictNodes(), dict[bytes, bytes]()
    for batch in batches:
        root = sparse.update(nodes, batch)
        for key, value in batch.items():
            if value is None:
                model.pop(key, None)
            else:
                model[key] = value
        assert root == _model_root(model) == sparse.root(nodes)
    at_once = DictNodes()
    sparse.update(at_once, model)
    assert at_once.stored == nodes.stored
    proof = sparse.SparseProof.decode(sparse.prove(nodes, probe).encode())
    if probe in model:
        sparse.check_membership(sparse.root(nodes), probe, model[probe], proof)
    else:
        sparse.check_absence(sparse.root(nodes), probe, proof)


@given(leaves=st.lists(HASHES, max_size=70), data=st.data())
@settings(deadline=None)
def test_history_equals_merkle_tree(leaves: list[bytes], data: st.DataObject) -> None:
    nodes = DictNodes()
    for size, leaf in enumerate(leaves):
        history.append(nodes, size, leaf)
    size = data.draw(st.integers(0, len(leaves)))
    assert history.root(nodes, size) == merkle.root(leaves[:size])
    if size:
        index = data.draw(st.integers(0, size - 1))
        assert history.prove(nodes, size, index) == merkle.inclusion_proof(leaves[:size], index)


@given(leaves=st.lists(HASHES, min_size=1, max_size=40, unique=True), data=st.data())
@settings(deadline=None)
def test_merkle_proofs_hold_and_changed_ones_do_not(leaves: list[bytes], data: st.DataObject) -> None:
    size = len(leaves)
    root = merkle.root(leaves)
    index = data.draw(st.integers(0, size - 1))
    proof = merkle.inclusion_proof(leaves, index)
    merkle.check_inclusion(leaf=leaves[index], index=index, size=size, proof=proof, root=root)
    other = data.draw(st.integers(0, size - 1))
    if other != index:
        with pytest.raises(ProofError):
            merkle.check_inclusion(leaf=leaves[index], index=other, size=size, proof=proof, root=root)
    old = data.draw(st.integers(0, size))
    merkle.check_consistency(
        old_size=old,
        new_size=size,
        old_root=merkle.root(leaves[:old]),
        new_root=root,
        proof=merkle.consistency_proof(leaves, old),
    )


class _Reader:
    def __init__(self, content: dict[tuple[Bucket, bytes], bytes]) -> None:
        self.content = content

    def get(self, bucket: Bucket, key: bytes, /) -> bytes | None:
        return self.content.get((bucket, key))


PLACES = st.tuples(st.sampled_from(list(Bucket)), st.binary(max_size=2))


@given(
    before=st.dictionaries(PLACES, st.binary(max_size=3), max_size=10),
    writes=st.lists(st.tuples(PLACES, st.none() | st.binary(max_size=3)), max_size=15),
)
def test_delta_then_inverse_restores(
    before: dict[tuple[Bucket, bytes], bytes],
    writes: list[tuple[tuple[Bucket, bytes], bytes | None]],
) -> None:
    overlay = Overlay(_Reader(before))
    expected: dict[tuple[Bucket, bytes], bytes] = dict(before)
    for (bucket, key), value in writes:
        if value is None:
            overlay.delete(bucket, key)
            expected.pop((bucket, key), None)
        else:
            overlay.put(bucket, key, value)
            expected[bucket, key] = value
    delta = Delta.decode(overlay.delta().encode())
    assert all(change.old != change.new for change in delta)

    after = dict(before)
    _write(after, delta)
    assert after == expected
    _write(after, delta.inverse())
    assert after == before
    assert delta.inverse().inverse() == delta


def _write(content: dict[tuple[Bucket, bytes], bytes], delta: Delta) -> None:
    for change in delta:
        assert content.get((change.bucket, change.key)) == change.old
        if change.new is None:
            del content[change.bucket, change.key]
        else:
            content[change.bucket, change.key] = change.new


@given(st.integers(1, MAX_TARGET))
def test_bits_round_down_and_stay_close(target: int) -> None:
    bits = target_to_bits(target)
    rounded = bits_to_target(bits)
    assert rounded <= target
    assert target - rounded <= target >> 15
    assert target_to_bits(rounded) == bits


@given(st.integers(0, 2**32 - 1))
def test_every_u32_is_a_canonical_target_or_refused(bits: int) -> None:
    try:
        target = bits_to_target(bits)
    except DecodeError:
        return
    assert target_to_bits(target) == bits


@given(st.binary(max_size=200))
def test_decoders_raise_decode_error_only(data: bytes) -> None:
    for decode in (sparse.SparseProof.decode, Delta.decode):
        with suppress(DecodeError):
            assert decode(data).encode() == data
