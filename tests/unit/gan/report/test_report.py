import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from facechain.cli.report import report
from facechain.gan.device import Device
from facechain.gan.errors import ReportError
from facechain.gan.report.checklist import CHECKLIST, PARTS, answers
from facechain.gan.report.claims import CLAIMS
from facechain.gan.report.collect import Sources, gather
from facechain.gan.report.page import SECTIONS, present_parts
from support.faces import made_faces, write_zip
from support.report_sources import HOSTILE_NAME, OPTIONS, STATEMENTS, make_report_sources

PICTURES = 10
ASSETS = Path(__file__).parents[4] / "gan" / "assets"


class Page(HTMLParser):
    """What a browser would find, and what it would fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)
        self.fetched += [value or "" for name, value in attrs if name == "src"]
        self.links += [value or "" for name, value in attrs if name == "href"]
        self.ids += [value or "" for name, value in attrs if name == "id"]

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
    """A run with all that a report can be made of."""
    return make_report_sources(run_folder, tmp_path_factory.mktemp("report"), cpu)


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded generator with its records, as a run folder."""
    folder = tmp_path_factory.mktemp("embedded")
    for name in ("generator.safetensors", "stage.json"):
        shutil.copyfile(ASSETS / name, folder / name)
    return folder


def options_of(everything: dict[str, Path]) -> list[object]:
    return [
        everything["run"],
        *(part for name in OPTIONS for part in (f"--{name}", everything[name])),
        *("--mining-blocks", 2),
    ]


def test_the_page_holds_everything_and_fetches_nothing(everything: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    result = invoke(*options_of(everything), "--out", out, "--json")
    assert result.exit_code == 0, result.exception
    assert json.loads(result.stdout)["missing"] == []
    page = Page(out.read_text())
    assert page.open == []
    assert all(link.startswith("#") and link[1:] in page.ids for link in page.links)
    assert [f"#{name}" for name, _ in SECTIONS] == page.links[: len(SECTIONS)]
    assert len(page.fetched) == PICTURES
    assert all(address.startswith("data:image/png;base64,") for address in page.fetched)
    for claim in CLAIMS:
        assert re.sub(r"\s+", " ", claim.remark) in page.text
        assert claim.paper in page.text
    assert page.text.count("cannot be answered:") == sum(not item.part for item in CHECKLIST)
    paths = {name: path for name, path in everything.items() if name != "faces"}
    found = gather(Sources(**paths))  # type: ignore[arg-type]
    assert frozenset(PARTS) - present_parts(found) == {"beside", "mining"}
    assert STATEMENTS["training"] in page.text
    assert f"{STATEMENTS['part']}, block 9 (confirmed)" in page.text
    assert "fd_some_network" in page.text
    assert "2, each on the one before" in page.text
    assert HOSTILE_NAME in page.text  # escaped in the file, and so a word and not a tag
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
    low, high = (gather(Sources(run=everything["run"], watts=watts)).cost for watts in (50, 200))
    assert low is not None
    assert high is not None
    assert high.kilowatt_hours == pytest.approx(4 * low.kilowatt_hours)
    assert low.kilowatt_hours == pytest.approx(low.hours * 50 / 1000)
    assert low.images == 32


def test_folders_and_files_that_do_not_fit_are_refused(everything: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="not a folder of run"):
        gather(Sources(run=tmp_path))
    run = everything["run"]
    for text, said in (
        ("{", "damaged"),
        ("[]", "damaged"),
        ('{"stages": [{}]}', "no receipt"),
        ("{}", "no receipt"),
        ('{"receipts": []}', "no receipt"),
        ('{"receipts": [{"stages": []}, {"stages": []}]}', "no receipt"),
        ('{"receipt": 3}', "no receipt"),
        ('{"stages": [], "parts": [{"id": "ab"}]}', "no receipt"),
    ):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(ReportError, match=said):
            gather(Sources(run=run, batch=everything["batch"], receipt=tmp_path / "bad.json"))
    for sources in (
        Sources(run=run, batch=run),
        Sources(run=run, evaluation=everything["batch"]),
        Sources(run=run, ablation=run),
    ):
        with pytest.raises(ReportError, match="not a folder of"):
            gather(sources)


def test_what_another_generator_made_or_left_is_refused(
    everything: dict[str, Path], embedded: Path, tmp_path: Path
) -> None:
    for sources in (
        Sources(run=embedded, batch=everything["batch"]),
        Sources(run=embedded, evaluation=everything["evaluation"]),
        Sources(run=embedded, batch=everything["batch"], receipt=everything["receipt"]),
    ):
        with pytest.raises(ReportError, match="another generator"):
            gather(sources)
    shutil.copytree(everything["evaluation"], tmp_path / "mixed")
    (tmp_path / "mixed" / "stage.json").write_bytes((embedded / "stage.json").read_bytes())
    with pytest.raises(ReportError, match=r"stage\.json is of another generator"):
        gather(Sources(run=everything["run"], evaluation=tmp_path / "mixed"))


def test_a_receipt_places_the_batch_that_it_speaks_of_and_no_other(
    everything: dict[str, Path], tmp_path: Path
) -> None:
    run, batch = everything["run"], everything["batch"]
    told = json.loads(everything["receipt"].read_text())
    changes: tuple[dict[str, object], ...] = ({"group": "00" * 32}, {"group": None}, {"parts": []})
    for change in changes:
        (tmp_path / "other.json").write_text(json.dumps({"receipt": told["receipt"] | change}))
        with pytest.raises(ReportError, match="the receipt of another batch"):
            gather(Sources(run=run, batch=batch, receipt=tmp_path / "other.json"))
    with pytest.raises(ReportError, match="--batch"):
        gather(Sources(run=run, receipt=everything["receipt"]))


def test_records_of_the_run_that_the_batch_does_not_name_are_not_anchored(
    everything: dict[str, Path],
) -> None:
    run, evaluation, batch = (everything[name] for name in ("run", "evaluation", "batch"))
    found = gather(Sources(run=run, evaluation=evaluation, batch=batch, receipt=everything["receipt"]))
    placed = {record.label for record in found.stages if found.place(record) is not None}
    assert placed == {"training"}
    assert {record.label for record in found.stages} > placed


def test_an_evaluation_of_an_earlier_release_is_refused(everything: dict[str, Path], tmp_path: Path) -> None:
    document = json.loads((everything["evaluation"] / "evaluation.json").read_text())
    document["discriminator"]["accuracy"] = 0.5
    (tmp_path / "evaluation.json").write_text(json.dumps(document))
    with pytest.raises(ReportError, match=r"earlier release.*run facechain evaluate again"):
        gather(Sources(run=everything["run"], evaluation=tmp_path))


def test_every_item_of_the_checklist_has_its_section_and_its_way_to_get_there(
    everything: dict[str, Path],
) -> None:
    sections = {name for name, _ in SECTIONS}
    for item in CHECKLIST:
        assert bool(item.part) == bool(item.section)
        assert not item.part or (item.section in sections and item.part in PARTS)
        assert item.part or item.remark
    assert {item.number for item in CHECKLIST} >= {"figure 8", "figure 10", "figure 11", "tables 3 and 5"}
    bare = answers(present_parts(gather(Sources(run=everything["run"]))))
    states = {(answer.item.subject, answer.state) for answer in bare}
    assert ("grid of generated faces", "here") in states
    assert ("confusion matrix of the discriminator", "not measured") in states
    assert all(answer.how for answer in bare if answer.state == "not measured")


def test_real_faces_come_from_the_runs_own_held_out_people_only(
    everything: dict[str, Path], tmp_path: Path
) -> None:
    other = write_zip(made_faces(people=9, per_person=2, seed=5), tmp_path / "other.zip")
    result = invoke(everything["run"], "--faces", other, "--out", tmp_path / "report.html")
    assert isinstance(result.exception, ReportError)
    assert not (tmp_path / "report.html").exists()


def test_faces_that_no_block_holds_are_not_shown_as_registered(
    everything: dict[str, Path], tmp_path: Path
) -> None:
    told = json.loads((everything["receipt"]).read_text())
    told["receipt"]["parts"][0] |= {"height": None, "level": "queued"}
    (tmp_path / "receipt.json").write_text(json.dumps(told))
    found = gather(
        Sources(run=everything["run"], batch=everything["batch"], receipt=tmp_path / "receipt.json")
    )
    assert "sheet" not in found.pictures
    assert dict(found.trail)["batch statement"] == f"{STATEMENTS['part']}, not sealed (queued)"


def test_the_batch_is_clustered_again_as_its_record_says(everything: dict[str, Path]) -> None:
    told = gather(Sources(run=everything["run"], batch=everything["batch"])).clustered
    assert told is not None
    assert (told.images, told.clusters) == (30, 5)
    assert told.seconds > 0
    assert told.processor_seconds > 0
