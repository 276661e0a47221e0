"""Reads settings from `TANGO_*` variables and the running stack's state file, and configures logging."""

from __future__ import annotations

import dataclasses
import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import structlog

from tango.errors import ConfigError
from tango.settings import Settings
from tango.stack.state import read_stack, state_home

ADDRESSES = {
    "database_url": "TANGO_DATABASE_URL",
    "reader_url": "TANGO_READER_URL",
    "broker_url": "TANGO_BROKER_URL",
    "kubeconfig": "TANGO_KUBECONFIG",
    "checkpoint": "TANGO_CHECKPOINT",
}
"""Fields of `Settings` that are addresses or paths → the variables that set them."""

TRUE_WORDS, FALSE_WORDS = ("1", "true", "yes", "on"), ("0", "false", "no", "off", "")
"""Values of variables for settings that are on or off, in any case."""


def read_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Settings from `TANGO_*` variables; addresses that they do not set come from the running stack's state file.

    Addresses are named in `ADDRESSES`; a tunable is `TANGO_<GROUP>_<FIELD>`, as in `TANGO_BE_TICK_S=0.5`.
    Raises: ConfigError for a value that is not of its field's type.
    """
    env = os.environ if environment is None else environment
    told: dict[str, Any] = {field: env[name] for field, name in ADDRESSES.items() if env.get(name)}
    found = dict(told)
    if "database_url" not in told or "broker_url" not in told:
        stack = read_stack(state_home(env))
        for field in ADDRESSES if stack is not None else ():
            value = getattr(stack, field, "")
            # A user's own database has no reader role of ours: never pair their server with our reader.
            if value and field not in told and not (field == "reader_url" and "database_url" in told):
                found[field] = value
    defaults = Settings()
    groups: dict[str, Any] = {
        name: _tunables(name, value, env)
        for name, value in ((f.name, getattr(defaults, f.name)) for f in dataclasses.fields(Settings))
        if dataclasses.is_dataclass(value)
    }
    return dataclasses.replace(defaults, **found, **groups)


def _tunables(group: str, default: Any, env: Mapping[str, str]) -> Any:
    changed: dict[str, Any] = {}
    for field in dataclasses.fields(default):
        name = f"TANGO_{group}_{field.name}".upper()
        if name not in env:
            continue
        kind = type(getattr(default, field.name))
        try:
            changed[field.name] = _is_true(env[name]) if kind is bool else kind(env[name])
        except ValueError as error:
            raise ConfigError(f"{name} is {env[name]!r}, expected {kind.__name__}") from error
    return dataclasses.replace(default, **changed)


def _is_true(word: str) -> bool:
    """Raises: ValueError for a word that says neither: a typing error must not switch a setting off silently."""
    if word.lower() not in (*TRUE_WORDS, *FALSE_WORDS):
        raise ValueError(word)
    return word.lower() in TRUE_WORDS


def configure_logging(level: int | str = logging.INFO) -> None:
    """Log events with fields to standard error, one line each; the logs of libraries take the same form."""
    logging.basicConfig(stream=sys.stderr, level=level, format="%(message)s", force=True)
    for noisy in ("aiohttp.access", "kombu", "amqp", "numba", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(key_order=["timestamp", "level", "event"]),
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def default_home() -> Path:
    """The state folder of this process's environment."""
    return state_home(os.environ)
