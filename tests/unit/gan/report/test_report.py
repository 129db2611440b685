import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from facechain.cli.report import report
from facechain.consensus.kinds import StageType
from facechain.gan.clustering import ClusteringOptions
from facechain.gan.device import Device
from facechain.gan.embedded import open_generator
from facechain.gan.errors import ReportError
from facechain.gan.metrics.evaluate import EvaluationOptions, evaluate, evaluation_record, write_evaluation
from facechain.gan.produce import produce
from facechain.gan.provenance import ProduceOptions
from facechain.gan.report.claims import CLAIMS
from facechain.gan.report.collect import gather
from facechain.gan.stages import StageRecord, extend, write_stages
from support.faces import made_faces

FACES = made_faces(people=20, per_person=3)
PICTURES = 8


class Page(HTMLParser):
    """What a browser would find, and what it would fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(report, [str(item) for item in arguments])


@pytest.fixture(scope="module")
def everything(run_folder: Path, cpu: Device, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run with its evaluation, its batch and a receipt."""
    folder = tmp_path_factory.mktemp("report")
    loaded, stages = open_generator(run_folder)
    options = EvaluationOptions(count=12, rounds=0, holdout_share=0.4)
    found = evaluate(loaded, FACES, [], options=options, device=cpu)
    document = write_evaluation(found, folder / "measured")
    stages = extend(stages, evaluation_record(found, document, stages))
    write_stages(
        folder / "measured",
        extend(stages, StageRecord(label="privacy", stage_type=StageType.PRIVACY, name="no <guarantee>")),
    )
    produced = ProduceOptions(count=30, seed=bytes(32), clustering=ClusteringOptions(clusters=5))
    produce(folder / "batch", loaded=loaded, model_stages=stages, options=produced, device=cpu)
    receipt = {"receipt": {"stages": [{"label": "training", "id": "ab" * 32, "level": "block", "height": 7}]}}
    (folder / "receipt.json").write_text(json.dumps(receipt))
    return {
        "run": run_folder,
        "evaluation": folder / "measured",
        "batch": folder / "batch",
        "receipt": folder / "receipt.json",
    }


def options_of(everything: dict[str, Path]) -> list[object]:
    return [
        everything["run"],
        *(part for name in ("evaluation", "batch", "receipt") for part in (f"--{name}", everything[name])),
    ]


def test_the_page_holds_everything_and_fetches_nothing(everything: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    result = invoke(*options_of(everything), "--out", out, "--json")
    assert result.exit_code == 0, result.exception
    assert json.loads(result.stdout)["missing"] == []
    page = Page(out.read_text())
    assert page.open == []
    assert len(page.fetched) == PICTURES
    assert all(address.startswith("data:image/png;base64,") for address in page.fetched)
    for claim in CLAIMS:
        assert re.sub(r"\s+", " ", claim.remark) in page.text
        assert claim.paper in page.text
    assert "ab" * 32 in page.text
    assert "no <guarantee>" in page.text  # escaped in the file, and so a word and not a tag
    assert "uaci" in page.text
    measured = json.loads((everything["evaluation"] / "evaluation.json").read_text())
    matrix = measured["discriminator"]["confusion"]
    assert f"held-out people ({sum(matrix['real'].values())})" in page.text


def test_what_was_not_measured_is_named_with_its_command(everything: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    result = invoke(everything["run"], "--out", out, "--json")
    missing = json.loads(result.stdout)["missing"]
    for command in (
        "facechain evaluate",
        "facechain produce",
        "facechain privacy-report",
        "facechain submit",
    ):
        assert any(command in line for line in missing)
    page = Page(out.read_text())
    assert "not measured" in page.text
    assert "nothing may be claimed" in page.text
    assert "not anchored" in page.text


def test_energy_follows_from_hours_and_the_assumed_power(everything: dict[str, Path]) -> None:
    low, high = (
        gather(everything["run"], evaluation=None, batch=None, receipt=None, watts=watts).cost
        for watts in (50, 200)
    )
    assert low is not None
    assert high is not None
    assert high.kilowatt_hours == pytest.approx(4 * low.kilowatt_hours)
    assert low.kilowatt_hours == pytest.approx(low.hours * 50 / 1000)
    assert low.images == 32


def test_folders_and_files_that_do_not_fit_are_refused(everything: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="not a run folder"):
        gather(tmp_path, evaluation=None, batch=None, receipt=None, watts=1)
    run = everything["run"]
    for text, said in (
        ("{", "damaged"),
        ("[]", "damaged"),
        ('{"stages": [{}]}', "no receipt"),
        ("{}", "no receipt"),
    ):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(ReportError, match=said):
            gather(run, evaluation=None, batch=None, receipt=tmp_path / "bad.json", watts=1)
