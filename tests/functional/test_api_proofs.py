"""Proofs for light clients over HTTP, from a node that mines."""

from __future__ import annotations

from facechain.consensus.kinds import Role
from facechain.consensus.light import LightClient
from facechain.consensus.proof_files import decode_frames
from facechain.consensus.state_proof import RoleProof
from support.api import serve
from support.chain import PRODUCER, STRANGER


async def test_a_light_client_follows_a_node_over_http() -> None:
    async with serve() as served:
        await served.node.seal(7)
        tree = served.node.chain.tree
        client = LightClient.from_genesis(served.node.chain.genesis)
        pages = 0
        while data := await served.get_bytes(f"/v1/proofs/headers?first={client.tip.height + 1}&limit=3"):
            pages += 1
            for item in decode_frames(data):
                client.accept(item, now_ms=served.node.now_ms())
        assert (client.tip.hash, pages) == (tree.tip.hash, 3)
        for key, held in ((PRODUCER, True), (STRANGER, False)):
            path = f"/v1/proofs/roles/producer/{key.public.hex()}"
            proof = RoleProof.decode(await served.get_bytes(path))
            assert (proof.role, proof.key) == (Role.PRODUCER, key.public)
            assert client.check_role(proof).holds_at(tree.tip.height) is held


async def test_what_is_no_role_no_key_and_no_height_is_refused() -> None:
    async with serve() as served:
        key = PRODUCER.public.hex()
        for path, expected in (
            (f"/v1/proofs/roles/miner/{key}", "admin, producer, submitter, viewer"),
            ("/v1/proofs/roles/producer/abc", "64 hex digits"),
            ("/v1/proofs/headers?first=0", "1 to 9223372036854775807"),
            ("/v1/proofs/headers?limit=5001", "a whole number from 0 to 5000"),
        ):
            error = (await served.get(path, status=400))["error"]
            assert (error["code"], error["expected"]) == ("bad-request", expected)
        assert await served.get_bytes("/v1/proofs/headers?first=1") == b""
