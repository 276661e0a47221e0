"""Any port with planned failures: how a use case meets a store that is away for a moment."""

from __future__ import annotations

from typing import Any, NamedTuple


class PortCall(NamedTuple):
    """One call of a method."""

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class Faulty:
    """Passes calls on to `port` and notes them; those of a method with planned `failures` raise these first, in order.

    >>> Faulty(store, settle=[StoreUnavailable("away")])   # the first settle fails, the second is passed on
    """

    def __init__(self, port: Any, **failures: list[Exception]) -> None:
        self._port = port
        self.failures = failures
        self.calls: list[PortCall] = []

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append(PortCall(name, args, kwargs))
            if self.failures.get(name):
                raise self.failures[name].pop(0)
            return getattr(self._port, name)(*args, **kwargs)

        return call

    def calls_of(self, name: str) -> list[PortCall]:
        """Calls of one method."""
        return [call for call in self.calls if call.name == name]
