"""Which architectures a tag knows."""

import pytest

from quantmill.reference.known_models import FIRST, knows


@pytest.mark.parametrize(
    ("tag", "architecture", "known"),
    [
        ("b5490", "llama", True),
        ("b5490", "qwen3", True),
        ("b4978", "qwen3", False),
        ("b5490", "gpt-oss", False),
        ("b5490", "lfm2", False),
        ("b6122", "gpt-oss", True),
        ("b6845", "qwen3next", False),
        ("b7698", "qwen3next", True),
        ("b11739", "glm5-next", True),
        ("v0.5.0", "glm5-next", False),
        ("b11312", "glm5-next", True),
        ("b7324", "qwen3next", True),
        ("v0.5.0", "qwen35", True),
        ("v0.6.0", "glm5-next", True),
        ("b99999", "no-such-model", False),
        ("b11739", "", False),
        ("b9014", "clip", True),
        ("b9102", "clip", False),
        ("b10236", "clip", False),
        ("b10361", "clip", True),
    ],
)
def test_what_a_tag_knows(tag: str, architecture: str, known: bool) -> None:
    assert knows(tag, architecture) is known


def test_all_that_a_library_of_the_newest_tag_knew_are_listed() -> None:
    assert len(FIRST) == 153
