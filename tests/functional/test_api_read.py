import asyncio
import base64
import json
import threading

from facechain.cli.answers import Account, BlockName, NodeStatus, Proposals, Roles, StatementStatus
from facechain.consensus.block import SealedHeader
from facechain.consensus.kinds import Role, RoleAction, StageType
from facechain.consensus.params import Genesis
from facechain.consensus.payloads import Attestation, Checkpoint, Retract, RoleProposal
from facechain.consensus.perceptual import hamming
from facechain.consensus.statement import Statement
from facechain.node.genesis_file import GenesisDocument, params_from_json
from facechain.node.mentions import MEASUREMENTS_EACH
from support.api import TOKEN, bearer, register, serve
from support.chain import ADMIN, PRODUCER, STRANGER, SUBMITTER, make_stage, seed
from support.lone_node import LoneNode
from support.pictures import altered, make_picture, picture_batch

UNKNOWN = seed("never said").hex()


async def test_status_of_a_chain_with_blocks_names_tip_and_mempool() -> None:
    async with serve() as served:
        block = await served.node.seal(3)
        status = await served.get("/v1/status")
        NodeStatus.of(status)
        assert (status["height"], status["tip"]) == (3, block.hash.hex())
        assert int(status["chainwork"], 16) == served.node.chain.tree.tip.chainwork
        assert status["network_id"] == served.node.chain.network_id.hex()
        assert status["mempool"] == {"statements": 0, "bytes": 0}
        assert (status["syncing"], status["progress"], status["checkpoint"]) == (False, 1.0, None)
        assert status["tip_time_ms"] == block.header.time_ms


async def test_params_and_genesis_can_be_read_back() -> None:
    async with serve() as served:
        genesis = served.node.genesis
        assert params_from_json(await served.get("/v1/params")) == genesis.params
        assert Genesis.decode(await served.get_bytes("/v1/genesis")).network_id == genesis.network_id
        text = json.dumps(await served.get("/v1/genesis"))
        assert GenesisDocument.decode(text).complete() == genesis


async def test_account_counts_chain_and_mempool_sequences() -> None:
    async with serve() as served:
        await register(served.node)
        answer = await served.get(f"/v1/accounts/{SUBMITTER.public.hex()}")
        assert (answer["roles"], answer["next_sequence"]) == (["submitter"], 7)
        payload, header = picture_batch([make_picture(77)])
        await served.node.put(SUBMITTER, payload, header)
        answer = await served.get(f"/v1/accounts/{SUBMITTER.public.hex()}")
        assert (answer["next_sequence"], answer["next_sequence_with_mempool"]) == (7, 8)
        assert Account.of(answer).next_sequence == 8
        stranger = await served.get(f"/v1/accounts/{STRANGER.public.hex()}")
        assert (stranger["roles"], stranger["entries"], stranger["next_sequence"]) == ([], [], 0)


async def test_roles_and_proposals_follow_a_grant() -> None:
    async with serve() as served:
        grant = RoleProposal(
            action=RoleAction.GRANT,
            role=Role.SUBMITTER,
            subject=STRANGER.public,
            encryption_key=None,
            suspect_since=None,
            note="a new member",
        )
        statement = await served.node.put(ADMIN, grant)
        await served.node.seal()
        entries = {(item.role, item.key): item for item in Roles.of(await served.get("/v1/roles")).entries}
        assert entries["submitter", STRANGER.public].intervals == ((2, None),)
        assert entries["submitter", STRANGER.public].held
        before = Roles.of(await served.get("/v1/roles?height=1"))
        assert {item.key for item in before.entries if item.held} == {
            ADMIN.public,
            PRODUCER.public,
            SUBMITTER.public,
        }
        (proposal,) = Proposals.of(await served.get("/v1/proposals")).entries
        assert (proposal.id, proposal.subject, proposal.effective_height) == (
            statement.id,
            STRANGER.public,
            1,
        )


async def test_blocks_come_newest_first_in_pages() -> None:
    async with serve() as served:
        await served.node.seal(5)
        first = await served.get("/v1/blocks?limit=4")
        assert [item["height"] for item in first["blocks"]] == [5, 4, 3, 2]
        second = await served.get(f"/v1/blocks?limit=4&before={first['next_before']}")
        assert [item["height"] for item in second["blocks"]] == [1, 0]
        assert second["next_before"] is None
        assert (await served.get("/v1/blocks?before=0"))["blocks"] == []


async def test_block_by_height_and_hash_and_header_octets_agree() -> None:
    async with serve() as served:
        told = await register(served.node)
        by_height = await served.get("/v1/blocks/1")
        block_hash = by_height["hash"]
        assert await served.get(f"/v1/blocks/{block_hash}") == by_height
        BlockName.of(by_height)
        assert by_height["images"] == 5
        assert told.batch.id.hex() in [item["id"] for item in by_height["statements"]]
        sealed = SealedHeader.decode(await served.get_bytes(f"/v1/headers/{block_hash}"))
        assert sealed.hash.hex() == block_hash
        assert sealed.seal.hex() == by_height["seal"]


async def test_statement_receipts_go_from_queued_to_confirmed() -> None:
    async with serve() as served:
        payload, header = picture_batch([make_picture(1)])
        statement = await served.node.put(SUBMITTER, payload, header)
        path = f"/v1/statements/{statement.id.hex()}"
        assert (await served.get(path))["receipt"] == "queued"
        served.node.held_by[statement.leaf] = 2
        relayed = await served.get(path)
        assert (relayed["receipt"], relayed["holders"], relayed["height"]) == ("relayed", 2, None)
        await served.node.seal()
        sealed = await served.get(path)
        assert (sealed["receipt"], sealed["confirmations"], sealed["height"]) == ("sealed", 1, 1)
        await served.node.seal()
        confirmed = StatementStatus.of(await served.get(path))
        assert (confirmed.receipt, confirmed.confirmations) == ("confirmed", 2)
        assert confirmed.content["batch"]["record_count"] == 1
        assert Statement.decode(await served.get_bytes(path)) == statement


async def test_statement_that_expired_tells_its_reason() -> None:
    async with serve() as served:
        payload, header = picture_batch([make_picture(1)])
        statement = served.node.sign(SUBMITTER, payload, header, valid_until_height=1)
        await served.node.submit([statement])
        assert statement in served.node.template().body.statements
        later = served.node.chain.make_template([], producer=PRODUCER.public, now_ms=served.node.now_ms() + 1)
        await served.node.seal_template(later)
        answer = await served.get(f"/v1/statements/{statement.id.hex()}")
        assert answer["receipt"] == "refused"
        assert answer["refused"]["code"] == "expired-statement"
        assert "expired-statement" in str(StatementStatus.of(answer).refusal)


async def test_statement_between_chain_and_mempool_is_waited_for() -> None:
    async with serve() as served:
        payload, header = picture_batch([make_picture(1)])
        statement = served.node.sign(SUBMITTER, payload, header)
        go_on = threading.Event()

        def come_back() -> None:
            go_on.wait(20)
            served.node.runner.mempool.submit([statement])

        change = asyncio.create_task(served.node.runner.call(come_back))
        asked = asyncio.create_task(served.get(f"/v1/statements/{statement.id.hex()}"))
        done, _ = await asyncio.wait({asked}, timeout=0.3)
        assert not done
        go_on.set()
        assert (await asked)["receipt"] == "queued"
        await change


async def test_batches_by_root_finds_waiting_and_sealed_ones() -> None:
    async with serve() as served:
        payload, header = picture_batch([make_picture(1)])
        statement = await served.node.put(SUBMITTER, payload, header)
        path = f"/v1/batches/by-root/{SUBMITTER.public.hex()}/{header.records_root.hex()}"
        assert await served.get(path) == {"ids": [statement.id.hex()]}
        await served.node.seal()
        assert await served.get(path) == {"ids": [statement.id.hex()]}
        assert await served.get(f"/v1/batches/by-root/{UNKNOWN}/{header.records_root.hex()}") == {"ids": []}


async def test_image_by_pixel_and_file_hash_lists_claims_oldest_first() -> None:
    async with serve() as served:
        told = await register(served.node)
        picture = told.pictures[2]
        payload, header = picture_batch([picture])
        again = await served.node.put(SUBMITTER, payload, header)
        await served.node.seal()
        answer = await served.get(f"/v1/images/{picture.pixel_hash.hex()}")
        first, second = answer["claims"]
        assert answer["matched"] == "pixel-hash"
        assert (first["batch"], second["batch"]) == (told.batch.id.hex(), again.id.hex())
        assert first["place"] == {"height": 1, "index": 6, "record": 2}
        assert (first["generator_index"], first["cluster"], first["confirmations"]) == (2, 2, 3)
        assert first["time"]["from_ms"] < first["time"]["until_ms"]
        assert first["model"]["name"] == "blob-gan"
        assert (second["model"], second["filter"]) == ("none", "none")
        assert (first["public"], first["retracted"], first["disputed"]) == (True, False, False)
        by_file = await served.get(f"/v1/images/{picture.file_hash.hex()}")
        assert by_file["matched"] == "file-hash"
        assert by_file["claims"] == answer["claims"]


async def test_image_of_a_retracted_record_says_so() -> None:
    async with serve() as served:
        told = await register(served.node)
        await served.node.put(SUBMITTER, Retract(target=told.batch.id, record=1, reason="too close"))
        await served.node.seal()
        path = "/v1/images/{}"
        gone = await served.get(path.format(told.pictures[1].pixel_hash.hex()))
        kept = await served.get(path.format(told.pictures[0].pixel_hash.hex()))
        assert gone["claims"][0]["retracted"] is True
        assert gone["claims"][0]["retraction_reasons"] == ["too close"]
        assert kept["claims"][0]["retracted"] is False


async def test_many_attestations_and_remarks_hide_no_retraction_and_no_measurement() -> None:
    async with serve() as served:
        told = await register(served.node)
        batch, picture = told.batch.id, told.pictures[2]
        for number in range(5):
            for stage_type in (StageType.EVALUATION, StageType.PRIVACY):
                remark = make_stage(stage_type, told.training.id, name=f"a stranger's {number}")
                await served.node.put(PRODUCER, remark)
        for number in range(210):
            said = Attestation(batch=batch, record=2, pixel_hash=seed("other pixels"), note=str(number))
            await served.node.put(PRODUCER, said)
        for _ in range(2):
            said = Attestation(batch=batch, record=2, pixel_hash=picture.pixel_hash, note="")
            await served.node.put(ADMIN, said)
        await served.node.seal()
        await served.node.put(SUBMITTER, Retract(target=batch, record=2, reason="too close"))
        own = make_stage(StageType.PRIVACY, told.training.id, name="measured late")
        await served.node.put(SUBMITTER, own)
        await served.node.seal()
        (claim,) = (await served.get(f"/v1/images/{picture.pixel_hash.hex()}"))["claims"]
        assert claim["retraction_reasons"] == ["too close"]
        assert [item["author"] for item in claim["attestations"]] == [ADMIN.public.hex()]
        steps = (await served.get(f"/v1/stages/{batch.hex()}/trail"))["steps"]
        names = [step.get("name", "") for step in steps]
        assert "measured late" in names
        assert sum(name.startswith("a stranger's") for name in names) == 2 * MEASUREMENTS_EACH


async def test_image_by_a_revoked_and_suspected_author_is_disputed() -> None:
    async with serve() as served:
        told = await register(served.node)
        revoke = RoleProposal(
            action=RoleAction.REVOKE,
            role=Role.SUBMITTER,
            subject=SUBMITTER.public,
            encryption_key=None,
            suspect_since=1,
            note="key was stolen",
        )
        await served.node.put(ADMIN, revoke)
        await served.node.seal()
        answer = await served.get(f"/v1/images/{told.pictures[0].pixel_hash.hex()}")
        assert answer["claims"][0]["disputed"] is True


async def test_looks_find_an_altered_copy_and_its_distance() -> None:
    async with serve() as served:
        told = await register(served.node)
        copy = altered(told.pictures[3])
        assert copy.pixel_hash != told.pictures[3].pixel_hash
        answer = await served.get(f"/v1/looks/{copy.look.hex()}?max_distance=20")
        (match,) = answer["matches"]
        assert match["claim"]["pixel_hash"] == told.pictures[3].pixel_hash.hex()
        assert match["distance"] == hamming(copy.look, told.pictures[3].look)
        everything = await served.get(f"/v1/looks/{copy.look.hex()}?max_distance=256&limit=4")
        distances = [item["distance"] for item in everything["matches"]]
        assert distances == sorted(distances)
        assert (len(distances), everything["scanned"], everything["complete"]) == (4, 5, True)


async def test_trail_goes_from_the_batch_back_to_the_data() -> None:
    async with serve() as served:
        told = await register(served.node)
        answer = await served.get(f"/v1/stages/{told.batch.id.hex()}/trail")
        assert [step["step"] for step in answer["steps"]] == [
            "image-batch",
            "clustering",
            "filter",
            "generation",
            "training",
            "privacy",
            "dataset",
        ]
        assert answer["steps"][-1]["details"] == {"images": "1000", "licence": "CC0"}


async def test_checkpoint_of_the_quorum_is_told() -> None:
    async with serve() as served:
        block = await served.node.seal()
        assert await served.get("/v1/checkpoint") == {"checkpoint": None}
        await served.node.put(ADMIN, Checkpoint(height=1, block_hash=block.hash))
        await served.node.seal()
        told = {"height": 1, "hash": block.hash.hex()}
        assert await served.get("/v1/checkpoint") == {"checkpoint": told}
        assert (await served.get("/v1/status"))["checkpoint"] == told


async def test_unknown_things_are_typed_404() -> None:
    async with serve() as served:
        for path, code in (
            ("/v1/blocks/7", "block-not-found"),
            (f"/v1/blocks/{UNKNOWN}", "block-not-found"),
            (f"/v1/headers/{UNKNOWN}", "block-not-found"),
            (f"/v1/statements/{UNKNOWN}", "statement-not-found"),
            (f"/v1/images/{UNKNOWN}", "not-registered"),
            (f"/v1/evidence/{UNKNOWN}", "not-registered"),
            (f"/v1/stages/{UNKNOWN}/trail", "statement-not-found"),
            (f"/v1/objects/{UNKNOWN}", "object-not-available"),
            ("/v1/nothing", "no-such-path"),
        ):
            error = (await served.get(path, status=404))["error"]
            assert error["code"] == code, path
            assert set(error) == {"code", "message", "expected", "got"}


async def test_parameters_that_cannot_be_read_are_400() -> None:
    async with serve() as served:
        for path in (
            "/v1/images/abc",
            f"/v1/images/{'zz' * 32}",
            f"/v1/images/{'é' * 32}",
            "/v1/blocks/-1",
            "/v1/blocks/99999999999999999999999",
            "/v1/blocks?limit=0",
            "/v1/blocks?limit=201",
            "/v1/blocks?before=x",
            "/v1/roles?height=²",
            f"/v1/looks/{UNKNOWN}?max_distance=257",
        ):
            error = (await served.get(path, status=400))["error"]
            assert error["code"] == "bad-request", path
            assert error["expected"]


async def test_evidence_of_each_claim_is_served() -> None:
    async with serve() as served:
        told = await register(served.node)
        digest = told.pictures[0].pixel_hash.hex()
        assert len(await served.get_bytes(f"/v1/evidence/{digest}?claim=0")) > 1000
        error = (await served.get(f"/v1/evidence/{digest}?claim=1", status=400))["error"]
        assert error["expected"] == "0 to 0"


async def test_guarded_reads_need_the_token_but_health_does_not() -> None:
    async with serve(read_token=True) as served:
        assert (await served.get("/healthz"))["status"] == "ok"
        assert (await served.get("/v1/status", status=401))["error"]["code"] == "token-required"
        assert (await served.get("/", status=401))["error"]["code"] == "token-required"
        await served.get("/v1/status", headers=bearer(TOKEN))
        await served.get("/v1/status", headers=bearer("e" * 64), status=401)
        await served.get("/v1/status", headers={"Authorization": "Basic !!"}, status=401)
        basic = base64.b64encode(f"me:{TOKEN}".encode()).decode()
        await served.get("/v1/status", headers={"Authorization": f"Basic {basic}"})


async def test_no_answer_allows_another_origin() -> None:
    async with (
        serve() as served,
        served.session.get(
            f"{served.server.url}/v1/status", headers={"Origin": "https://elsewhere.example"}
        ) as response,
    ):
        assert not [name for name in response.headers if name.lower().startswith("access-control")]
        assert "default-src 'none'" in response.headers["Content-Security-Policy"]


async def test_peers_are_listed() -> None:
    from facechain.node.api.port import PeerInfo

    node = LoneNode()
    node.connected.append(
        PeerInfo(
            node_key=seed("peer"),
            address="192.0.2.1:7440",
            inbound=False,
            height=4,
            user_agent="facechain/0.0.1",
            connected_seconds=3.0,
        )
    )
    async with serve(node) as served:
        (peer,) = (await served.get("/v1/peers"))["peers"]
        assert (peer["address"], peer["height"], peer["inbound"]) == ("192.0.2.1:7440", 4, False)
        assert (await served.get("/v1/status"))["peers"] == 1
