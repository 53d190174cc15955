"""No public name of the package stands for two things."""

from tests.public_names import doubled


def test_no_public_name_stands_for_two_things() -> None:
    assert doubled() == {}
