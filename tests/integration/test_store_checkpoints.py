"""Learned networks in the store: one row a digest, whatever is loaded how often."""

from __future__ import annotations

from tango.store.checkpoints import PostgresCheckpointStore
from tango.store.database import Database


def _register(store: PostgresCheckpointStore, digest: str, **changes: object) -> int:
    given = {
        "format_version": 1,
        "feature_schema": "f" * 64,
        "path": "/a.pt",
        "trained": {"seed": 3, "scores": [0.5]},
        "note": "shipped",
    }
    return store.register("dcg-be", digest=digest, **{**given, **changes})  # type: ignore[arg-type]


def test_a_network_is_registered_once_by_its_digest(database_url: str) -> None:
    """A second registration gives the same id, keeps what was noted first, and follows the file's path."""
    store = PostgresCheckpointStore(Database(database_url))

    first = _register(store, "a" * 64)
    other = _register(store, "b" * 64, note="")
    again = _register(store, "a" * 64, path="/moved.pt", note="other")

    assert again == first != other
    newest, oldest = store.list()
    assert (newest.checkpoint_id, newest.digest) == (other, "b" * 64)
    assert (oldest.name, oldest.format_version, oldest.feature_schema) == ("dcg-be", 1, "f" * 64)
    assert (oldest.path, oldest.note, oldest.trained) == ("/moved.pt", "shipped", {"seed": 3, "scores": [0.5]})
