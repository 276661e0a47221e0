"""A Celery application with Tango's settings of the broker, and one task, for tests of the line to it."""

from __future__ import annotations

import os
from pathlib import Path

from tango.settings import Settings
from workers.app import create_app

app = create_app(Settings(broker_url=os.environ["NOOP_BROKER_URL"]))
app.conf.include = ()


@app.task(name="noop.note", queue="noop")
def note(word: str) -> None:
    """Append the word to a file."""
    with Path(os.environ["NOOP_FILE"]).open("a") as file:
        file.write(f"{word}\n")
