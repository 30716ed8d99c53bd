import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch

import trivet.report
from trivet.data.problems import Problem
from trivet.doctor.finding import Finding, Where
from trivet.errors import StorageError
from trivet.report.contents import AuditContents, Choice, DataFacts, Picture, ReportContents
from trivet.report.page import TITLES, write_audit_page, write_report
from trivet.structures import TASKS, BoxTarget, Detections

HOSTILE = "<script>alert('x')</script>\"'><img src=x onerror=alert(1)>{{ 7*7 }}"
VOID = {"meta", "link", "img", "br", "input", "path", "use", "rect"}


class Outline(HTMLParser):
    """Reads a page's elements, ids, links and text, and checks that every element is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.handlers: list[str] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.ids += [value for name, value in attrs if name == "id"]
        self.links += [value for name, value in attrs if name in ("href", "src")]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def outline(path: Path) -> Outline:
    return Outline(path.read_text(encoding="utf-8"))


def sections(path: Path) -> list[str]:
    return re.findall(r'<section id="([\w-]+)"', path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def report_page(report_contents, tmp_path_factory) -> Path:
    return write_report(tmp_path_factory.mktemp("page") / "runs" / "report.html", report_contents)


def test_a_full_report_has_every_section(report_page):
    assert sections(report_page) == [name for name in TITLES if name not in ("checks", "calibration")]
    page = outline(report_page)
    assert len(page.ids) == len(set(page.ids))
    assert {link[1:] for link in page.links if link.startswith("#")} - {""} <= set(page.ids)
    assert page.tags.count("h1") == 1


def test_a_page_needs_nothing_from_outside(report_page):
    page = outline(report_page)
    assert all(link.startswith(("#", "data:")) for link in page.links)
    assert "script" not in page.tags
    assert page.handlers == []


@pytest.mark.slow
def test_the_largest_page_stays_under_4_mb(large_contents, tmp_path):
    path = write_report(tmp_path / "r.html", large_contents)
    assert path.stat().st_size < 4_000_000
    assert "and 2,980 more" in path.read_text(encoding="utf-8")


def test_the_least_report_is_a_headline(tmp_path):
    path = write_report(tmp_path / "r.html", ReportContents("t", "detection", ["a"]))
    assert sections(path) == []
    assert "it has not been scored" in path.read_text(encoding="utf-8")


def test_an_audit_has_its_sections(audit_contents, tmp_path):
    path = write_audit_page(tmp_path / "audit.html", audit_contents)
    assert sections(path) == ["findings", "data", "checks", "environment"]
    assert "1 error, 1 warning, 1 note; 3 faults were met while reading." in outline(path).words


def test_an_audit_without_faults_says_so(tmp_path):
    path = write_audit_page(tmp_path / "audit.html", AuditContents("t", ["a"]))
    assert "No fault was found." in outline(path).words


def test_every_section_has_one_macro_in_the_shared_or_in_the_tasks_own_template():
    folder = Path(trivet.report.__file__).parent

    def macros(name):
        return set(re.findall(r"macro (\w+)\(", (folder / f"{name}.html.jinja").read_text()))

    shared, own = macros("sections"), [macros(task) for task in TASKS]
    assert set(TITLES) <= shared.union(*own)
    for of_task in own:
        assert {"score", "classes"} <= of_task
        assert not of_task & shared


def test_hostile_words_stay_words(make_scores, tmp_path):
    scores = make_scores(1)
    scores = replace(scores, per_class=(replace(scores.per_class[0], name=HOSTILE),))
    nothing = BoxTarget(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    noise = torch.zeros(20, 20, 3, dtype=torch.uint8).numpy()
    contents = ReportContents(
        title=HOSTILE,
        task="detection",
        names=[HOSTILE],
        sentence=HOSTILE,
        scores=scores,
        history=[{"step": 0, "epoch": 0, HOSTILE: 1.0, f"val_{HOSTILE}": 1.0}],
        choices=[Choice(HOSTILE, HOSTILE, "given", HOSTILE)],
        facts=DataFacts({HOSTILE: HOSTILE}, {HOSTILE: [1], "b": [2]}),
        problems=[Problem(HOSTILE, HOSTILE, HOSTILE, HOSTILE)],
        findings=[
            Finding(
                HOSTILE,
                "error",
                HOSTILE,
                Where(HOSTILE, 1, HOSTILE),
                {HOSTILE: HOSTILE},
                HOSTILE,
                HOSTILE,
                HOSTILE,
            )
        ],
        gallery=[Picture(noise, HOSTILE, "worst", nothing, Detections.empty())],
        environment={HOSTILE: HOSTILE},
        command=HOSTILE,
    )
    page = outline(write_report(tmp_path / "r.html", contents))
    assert "script" not in page.tags
    assert page.tags.count("img") == 2
    assert page.handlers == []
    assert page.words.count(HOSTILE) >= 15
    assert "49" not in page.words


def test_a_surrogate_in_a_name_does_not_stop_the_page(tmp_path):
    path = write_audit_page(tmp_path / "a.html", AuditContents("\ud800", ["a"], checks={"\udfff": "ok"}))
    assert "<h1>?</h1>" in path.read_text(encoding="utf-8")


def test_a_page_that_cannot_be_finished_leaves_the_old_one(tmp_path, monkeypatch):
    path = write_audit_page(tmp_path / "a.html", AuditContents("old", ["a"]))

    def full(self, text, **_):
        self.write_bytes(text[:100].encode())
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(StorageError, match=r"no space left on device; the file that was there is unchanged"):
        write_audit_page(path, AuditContents("new", ["a"]))
    assert "<h1>old</h1>" in path.read_text(encoding="utf-8")
    monkeypatch.undo()
    write_audit_page(path, AuditContents("new", ["a"]))
    assert [file.name for file in tmp_path.iterdir()] == ["a.html"]


def test_an_experiment_is_drawn_under_its_finding(tmp_path):
    told = {
        "name": "lr-too-low",
        "result": "confirmed",
        "sentence": "with the remedy the held-out score is better",
        "gain": 0.5,
        "interval95": [0.4, 0.6],
        "seeds": 2,
        "held_out_samples": 64,
        "best_rate_factor": {"base": 1.0, "fix": 10.0, "placebo": 1.0},
        "looks": [10, 20],
        "curves": {
            "base": [[0.2, 0.25], [0.2, 0.2]],
            "fix": [[0.5, 0.7], [0.4, 0.75]],
            "placebo": [[0.2, 0.2]] * 2,
        },
    }
    finding = Finding("lr-too-low", "error", "nothing moves", evidence={"rate": 1e-5, "experiment": told})
    contents = AuditContents(title="one", names=[], facts=DataFacts({}), findings=[finding])
    page = outline(write_audit_page(tmp_path / "a.html", contents))
    assert "svg" in page.tags
    assert "With the remedy the held-out score is better." in " ".join(page.words)
    assert "curves" not in " ".join(page.words)
