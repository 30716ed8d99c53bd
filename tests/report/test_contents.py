import pytest

from trivet.errors import UsageError
from trivet.report.contents import AuditContents, DataFacts, ReportContents


def test_scores_of_other_classes_are_refused(make_scores):
    with pytest.raises(UsageError, match="needs scores of its 2 classes, got scores of 3"):
        ReportContents("t", "detection", ["a", "b"], scores=make_scores(3))


@pytest.mark.parametrize("kind", [ReportContents, AuditContents])
def test_counts_of_other_classes_are_refused(kind):
    given = {"title": "t", "names": ["a"], "facts": DataFacts(counts={"val": [1, 2]})}
    more = {"task": "detection"} if kind is ReportContents else {}
    with pytest.raises(UsageError, match="split 'val' need one number a class, got 2 for 1 classes"):
        kind(**given, **more)
