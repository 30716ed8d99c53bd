import pytest

from trivet.errors import TrainingError, UsageError, look_up, nearest, unknown_name


def test_the_nearest_name_and_the_list():
    fault = unknown_name("neck", "bifnp", ["fpn", "bifpn", "pan"])
    assert fault.message == "unknown neck 'bifnp'; did you mean 'bifpn'?"
    assert fault.hint == "known: bifpn, fpn, pan"
    assert str(fault) == f"{fault.message}\n{fault.hint}"


def test_a_name_like_no_other_suggests_nothing():
    assert unknown_name("neck", "zzz", ["fpn"]).message == "unknown neck 'zzz'"


def test_a_long_list_is_cut():
    fault = unknown_name("backbone", "x", [f"net{i:03}" for i in range(100)])
    assert fault.hint is not None
    assert fault.hint.endswith("net039, ... (100 in all)")


def test_letters_case_does_not_matter():
    assert nearest("BiFPN", ["bifpn"]) == "bifpn"
    assert nearest("resnet", []) is None


def test_look_up():
    assert look_up("neck", "fpn", {"fpn": 3}) == 3
    with pytest.raises(UsageError, match="unknown neck 'fpm'; did you mean 'fpn'"):
        look_up("neck", "fpm", {"fpn": 3})


@pytest.mark.parametrize("kind", [UsageError, TrainingError])
def test_an_error_without_a_hint_is_one_line(kind):
    assert str(kind("what happened")) == "what happened"
