"""Which places on a disk a tool call names."""

import pytest

from shared.backends.call_paths import call_paths


@pytest.mark.parametrize(
    ("arguments", "paths"),
    [
        ('{"path": "a.txt", "content": "x"}', ("a.txt",)),
        ({"file_path": "/a", "other": {"dest": "../b"}}, ("/a", "../b")),
        ({"files": ["a", "b", "a"]}, ("a", "b")),
        ({"target": "~", "count": 3, "flag": None}, ("~",)),
        ({"to": "C:\\temp"}, ("C:\\temp",)),
        ({"city": "Bern"}, ()),
        ("no JSON", ()),
        ('"text"', ()),
    ],
)
def test_everything_that_may_be_a_path_counts(arguments, paths):
    assert call_paths(arguments) == paths
