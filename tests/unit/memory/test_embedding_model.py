"""Which model a process has loaded, where the name comes from a database of all."""

from __future__ import annotations

from shared.host.embeddings import is_model_of


def model():
    """A function of its own, as Open WebUI makes one for each model it loads."""
    return lambda texts: texts


def test_a_name_that_changes_while_the_model_stays_is_another_replicas():
    kept, old = {}, model()
    assert is_model_of(old, "local/old", kept)
    assert not is_model_of(old, "local/new", kept)
    assert is_model_of(old, "local/old", kept)


def test_a_model_is_loaded_before_its_name_is_written():
    kept, old, new = {}, model(), model()
    assert is_model_of(old, "local/old", kept)
    assert is_model_of(new, "local/old", kept)
    assert is_model_of(new, "local/new", kept)
    assert not is_model_of(new, "local/newest", kept)
