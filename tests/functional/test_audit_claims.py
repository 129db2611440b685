"""The same pixels registered twice, by two authors: allowed, and every audit lists both claims."""

from pathlib import Path

from facechain.cli.main import run
from facechain.node.keystore import Keystore
from support.api_thread import ApiThread
from support.chain import PRODUCER, SUBMITTER
from support.commands import Capture, output
from support.submitting import images


def test_every_claim_of_the_same_pixels_is_listed_oldest_first(
    keeper: ApiThread, data_dir: Path, tmp_path: Path, capsys: Capture
) -> None:
    Keystore(data_dir / "keys").add("carol", PRODUCER, None)
    folder = images(tmp_path / "images", 2)
    first = output(capsys, "submit", "--batch", str(folder), "--key", "sam")
    second = output(capsys, "submit", "--batch", str(folder), "--key", "carol")
    assert first["batches"] != second["batches"]
    found = output(capsys, "audit", str(folder / "00000001.png"))
    stories = [claim["story"] for claim in found["claims"]]
    assert [story["author"] for story in stories] == [SUBMITTER.public.hex(), PRODUCER.public.hex()]
    assert [story["batch"] for story in stories] == [*first["batches"], *second["batches"]]
    assert run(["audit", str(folder / "00000001.png")]) == 0
    page = capsys.readouterr().out
    for key in (SUBMITTER, PRODUCER):
        assert key.public.hex() in page
