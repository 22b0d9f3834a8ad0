"""Every exchange gets its vector, but for what the model does not take."""

from __future__ import annotations

import pytest

from shared.memory import opening
from shared.memory.opening import BATCH, PlainFileError, index_pending, open_memory
from tests.unit.memory.conftest import BagOfWords
from tests.unit.memory.exchanges import said


class Engine(BagOfWords):
    """An embedding engine that refuses some texts, or everything."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.down = False

    async def name(self) -> str:
        return self.embedder.name

    async def embed(self, texts):
        self.asked += 1
        if self.down and texts != ["dimension"]:
            self.down = "really"
        if self.down == "really" or any("poison" in text for text in texts):
            raise OSError("422 for these texts")
        return await self.encode(texts)


@pytest.fixture
def engine(monkeypatch):
    engine, kept = Engine(), {}
    monkeypatch.setattr(opening, "embed_texts", engine.embed)
    monkeypatch.setattr(opening, "embedding_model_name", engine.name)
    monkeypatch.setattr(
        opening, "shared_resource", lambda name, make: kept.setdefault(name, make())
    )
    monkeypatch.setattr(opening, "LONGEST_REST", 0)
    return engine


async def waiting(store, engine):
    return [
        stored.exchange.question
        for _, stored in await store.pending(engine.embedder, 100)
    ]


async def test_no_plain_file_stands_beside_an_encrypted_database(
    engine, monkeypatch, tmp_path
):
    monkeypatch.setattr(opening, "on_postgres", lambda: False)
    monkeypatch.setattr(opening, "on_sqlcipher", lambda: True)
    monkeypatch.setattr(opening, "data_folder", lambda: tmp_path)
    with pytest.raises(PlainFileError):
        await open_memory()
    assert not list(tmp_path.iterdir())


async def test_one_rejected_text_leaves_all_others_their_vectors(store, engine):
    poison = said("poison, and newer than all", number=99, chat="x")
    others = [said(f"Number {n}", number=n) for n in range(BATCH + 4)]
    await store.save("ada", [poison])
    await store.save("bob", others)
    await index_pending(store)
    assert await waiting(store, engine) == [poison.question]
    engine.asked = 0
    await index_pending(store)
    assert engine.asked == 1  # the probe: what was rejected is not asked for again


async def test_a_whole_rejected_batch_does_not_end_the_work(store, engine):
    bad = [said(f"poison {n}", number=50 + n) for n in range(BATCH)]
    await store.save("ada", [*bad, said("An older one", number=1)])
    await index_pending(store)
    assert "An older one" not in await waiting(store, engine)


async def test_an_engine_that_is_down_condemns_nothing(store, engine):
    await store.save("ada", [said("One", number=1), said("Two", number=2)])
    engine.down = True
    with pytest.raises(OSError, match="422"):
        await index_pending(store)
    engine.down = False
    await index_pending(store)
    assert await waiting(store, engine) == []
