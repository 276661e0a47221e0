"""Passwords and tokens of one state folder: drawn at random once and kept in a file of mode 0600, so a restart uses the same."""

from __future__ import annotations

import json
import secrets
from pathlib import Path

from tango.errors import ConfigError
from tango.stack.state import write_private


class StackCredentials:
    """The secrets of one state folder by name, one for each account of the stack's servers."""

    def __init__(self, home: Path) -> None:
        """Read `credentials.json` of a state folder, if there is one. Raises: ConfigError if it is not JSON."""
        self._path = home / "credentials.json"
        try:
            self._known: dict[str, str] = json.loads(self._path.read_text()) if self._path.exists() else {}
        except ValueError as error:
            raise ConfigError(f"{self._path} is not JSON ({error}); the passwords of this state folder are lost with it") from error

    def drawn(self) -> frozenset[str]:
        """All secrets drawn so far."""
        return frozenset(self._known.values())

    def __getitem__(self, name: str) -> str:
        """The secret of that name: 192 random bits in base64url. It is drawn and written to the file at first use."""
        if name not in self._known:
            self._known[name] = secrets.token_urlsafe(24)
            write_private(self._path, json.dumps(self._known, indent=1))
        return self._known[name]
