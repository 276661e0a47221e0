"""How an emulated line between a cluster and its centre behaves."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import StrEnum

from tango.errors import ConfigError


class LineMode(StrEnum):
    """What becomes of bytes and of new connections."""

    OPEN = "open"
    STALL = "stall"
    """Bytes wait, and go on once the line is open again; new connections are taken and wait too."""
    SWALLOW = "swallow"
    """Bytes are taken and never arrive, as behind a firewall that has forgotten a connection."""
    CUT = "cut"
    """Connections are reset, and new ones reset at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LineState:
    """How a line behaves now."""

    mode: LineMode = LineMode.OPEN
    rtt_ms: float = 0.0
    """Round-trip time: half of it in each direction."""
    mbit_per_s: float = 0.0
    """Bandwidth of each direction of each connection; 0: without a limit."""

    @classmethod
    def of_text(cls, text: str) -> LineState:
        """Read what `as_text` gave. Raises: ConfigError."""
        try:
            found = json.loads(text)
            return cls(mode=LineMode(found["mode"]), rtt_ms=float(found["rtt_ms"]), mbit_per_s=float(found["mbit_per_s"]))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ConfigError(f"the state of a line is {text[:80]!r}, expected mode, rtt_ms and mbit_per_s as JSON") from error

    def as_text(self) -> str:
        """This state as JSON."""
        return json.dumps(asdict(self))
