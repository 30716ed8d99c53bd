from dataclasses import replace

from trivet.doctor.finding import Finding, Where
from trivet.report.contents import Choice
from trivet.report.text import choice_text, finding_text, plain_text, score_text

CELLS = ("RBC", "WBC", "Platelets")


def test_scores_as_text(make_scores):
    text = plain_text(score_text(make_scores(3), CELLS))
    assert "mAP50    0.861  95% interval 0.828 to 0.889" in text
    assert "by size         small 0.214, medium 0.533, large 0.702" in text
    row = next(line for line in text.splitlines() if line.startswith("WBC"))
    assert row.split() == ["WBC", "0.532", "██████████▋", "0.760", "0.608", "0.570", "200"]
    assert "missed           0.052     41" in text


def test_scores_without_interval_errors_or_truth(make_scores):
    scores = make_scores(1)
    bare = replace(
        scores, interval95={}, errors=(), per_class=(replace(scores.per_class[0], ap=float("nan")),)
    )
    text = plain_text(score_text(bare, ["x"]))
    assert "interval" not in text
    assert "mistake" not in text
    assert " -  " in text


def test_text_keeps_to_the_width_and_has_no_control_codes(make_scores):
    for width in (60, 100):
        text = plain_text(score_text(make_scores(80), ["x"] * 80), width=width)
        assert max(map(len, text.splitlines())) <= width
        assert "\x1b" not in text


def test_findings_as_text():
    finding = Finding(
        "leak",
        "error",
        "3 images leak",
        Where("val.txt", 17, "val"),
        {"n": 3},
        "Saved twice.",
        "Remove them.",
        None,
        "no-effect-seen",
    )
    assert plain_text(finding_text([finding])).splitlines() == [
        "error 3 images leak",
        "  val.txt:17, val",
        "  Saved twice.",
        "  Do: Remove them.",
        "  leak, no effect seen",
        "",
    ]
    assert plain_text(finding_text([])) == "No findings.\n"


def test_choices_as_text():
    text = plain_text(
        choice_text([Choice("batch", "8", "automatic", "2 GB of 8 GB"), Choice("minutes", "45", "given")])
    )
    assert text.splitlines() == [
        "what     value  by         why",
        "batch    8      automatic  2 GB of 8 GB",
        "minutes  45     given",
    ]


def test_markup_and_escape_codes_in_names_do_nothing(make_scores):
    choices = [Choice("[red]x[/red]", "\x1b[31m", "given")]
    text = plain_text(choice_text(choices))
    assert "[red]x[/red]" in text
    assert "\x1b" not in text
    hostile = replace(make_scores(1).per_class[0], name="[bold]\x1b[2J")
    text = plain_text(score_text(replace(make_scores(1), per_class=(hostile,)), ["n"]))
    assert "[bold]" in text
    assert "\x1b" not in text
