"""Reads settings from `TANGO_*` variables and the running stack's state file, and configures logging."""

from __future__ import annotations

import dataclasses
import logging
import math
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import structlog

from tango.domain.near_names import near_name
from tango.errors import ConfigError
from tango.settings import Settings
from tango.stack.broker_address import broker_address
from tango.stack.state import read_stack, state_home

LEAST_KEY = 32
"""Characters of the key that requests are signed with: 128 bits where they are hexadecimal digits."""
PREFIX = "TANGO_"
"""How the names of all variables of Tango begin."""
ADDRESSES = {
    "database_url": "TANGO_DATABASE_URL",
    "reader_url": "TANGO_READER_URL",
    "broker_url": "TANGO_BROKER_URL",
    "call_key": "TANGO_CALL_KEY",
    "journal_dir": "TANGO_JOURNAL_DIR",
    "kubeconfig": "TANGO_KUBECONFIG",
    "checkpoint": "TANGO_CHECKPOINT",
}
"""Fields of `Settings` that are addresses, paths or a key → the variables that set them."""

NO_SETTINGS = {
    "TANGO_HOME": "the state folder (tango.stack.state)",
    "TANGO_DEBUG": "whether commands show tracebacks (tango.cli.failures)",
    "TANGO_HEALTH_DIR": "the folder in which processes tell how far they are (tango.progress)",
    "TANGO_CONSOLE_TOKEN": "what people log in to the console with (tango.bootstrap.console)",
    "TANGO_CONSOLE_URL": "where the console of a stack is (tango.cli.stack)",
    "TANGO_METRICS_DIR": "the folder in which processes count for metrics (tango.telemetry)",
    "TANGO_METRICS_URL": "where a stack's metrics are, for whoever scrapes them (tango.cli.stack)",
    "TANGO_READY_FILE": "the file by which a worker tells the supervisor that it is ready (workers.app)",
    "TANGO_TOKEN": "the token with which commands call a gateway (tango.cli.request)",
    "TANGO_GATEWAY_URL": "the gateway that commands call (tango.cli.request)",
    "TANGO_BENCH_BROKER_URL": "the broker of a benchmark (tango.bench.noop_app)",
    **dict.fromkeys(
        ("TANGO_ADMIN_URL", "TANGO_OWNER_URL", "TANGO_OWNER_PASSWORD", "TANGO_APP_PASSWORD", "TANGO_READER_PASSWORD"),
        "roles of a database (tango.cli.database)",
    ),
    **dict.fromkeys(("TANGO_ADMIN_PASSWORD", "TANGO_BROKER_PASSWORD"), "passwords of a trial's servers (workers.trial_server)"),
    "TANGO_TRACES_DIR": "the folder of real traces, for tests",
    **dict.fromkeys(
        (
            "TANGO_SERVICE",
            "TANGO_CLUSTER",
            "TANGO_INSTANCE",
            "TANGO_CONCURRENCY",
            "TANGO_PORT",
            "TANGO_HOST",
            "TANGO_CPU_WORK_S",
            "TANGO_MEMORY_MIB",
            "TANGO_CORES",
            "TANGO_TERMINATION_LOG",
            "TANGO_SERVICE_KEY",
        ),
        "what a pod is to do (tango.emulation.workload)",
    ),
    **dict.fromkeys(("TANGO_ATTEMPT", "TANGO_REQUEST", "TANGO_PROGRESS_FILE"), "what a job is told (tango.domain.jobs)"),
}
"""Variables of Tango that are no settings → what they are, and who reads them."""

SERVICE_LINK = re.compile(r"TANGO(_\w+)?_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)")
"""What Kubernetes puts into the environment of a pod for each service of its namespace, here for those whose names begin with `tango`."""

TRUE_WORDS, FALSE_WORDS = ("1", "true", "yes", "on"), ("0", "false", "no", "off", "")
"""Values of variables for settings that are on or off, in any case."""


def read_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Settings from `TANGO_*` variables; addresses that they do not set come from the running stack's state file.

    Addresses are named in `ADDRESSES`; a tunable is `TANGO_<GROUP>_<FIELD>`, as in `TANGO_BE_TICK_S=0.5`.
    Raises: ConfigError for a value that is not of its field's type, and for a `TANGO_*` variable that nobody reads: somebody meant a
    setting that would otherwise keep its default without a word.
    """
    env = os.environ if environment is None else environment
    defaults = Settings()
    _refuse_unknown(env, defaults)
    told: dict[str, Any] = {field: env[name] for field, name in ADDRESSES.items() if env.get(name)}
    found = dict(told)
    if "database_url" not in told or "broker_url" not in told:
        stack = read_stack(state_home(env))
        for field in ADDRESSES if stack is not None else ():
            value = getattr(stack, field, "")
            # A user's own database has no reader role of ours: never pair their server with our reader.
            if value and field not in told and not (field == "reader_url" and "database_url" in told):
                found[field] = value
    if len(key := found.get("call_key", "")) < LEAST_KEY and key:
        raise ConfigError(
            f"TANGO_CALL_KEY has {len(key)} characters, expected {LEAST_KEY} at least, drawn at random: `openssl rand -hex 32`"
        )
    if url := found.get("broker_url"):
        found["broker_url"] = broker_address(url)
    groups = {name: _tunables(name, group, env) for name, group in groups_of(defaults).items()}
    return dataclasses.replace(defaults, **found, **groups)


def groups_of(settings: Settings) -> dict[str, Any]:
    """The groups of settings by name."""
    found = {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}
    return {name: value for name, value in found.items() if dataclasses.is_dataclass(value)}


def variable(group: str, field: str) -> str:
    """The variable that sets a field of a group."""
    return f"TANGO_{group}_{field}".upper()


def _refuse_unknown(env: Mapping[str, str], defaults: Settings) -> None:
    known = {*ADDRESSES.values(), *NO_SETTINGS}
    known |= {variable(name, field.name) for name, group in groups_of(defaults).items() for field in dataclasses.fields(group)}
    for name in sorted(env):
        if name.startswith(PREFIX) and name not in known and not SERVICE_LINK.fullmatch(name):
            # Without the prefix that all have: it would make any two of them alike.
            near = near_name(name.removeprefix(PREFIX), [one.removeprefix(PREFIX) for one in known], prefix=PREFIX)
            raise ConfigError(
                f"the environment variable {name} is no setting of Tango{near}; unset it, or see docs/settings.md for "
                "all that there are"
            )


def _tunables(group: str, default: Any, env: Mapping[str, str]) -> Any:
    changed: dict[str, Any] = {}
    for field in dataclasses.fields(default):
        name = variable(group, field.name)
        if name in env:
            changed[field.name] = _value(name, env[name], getattr(default, field.name))
    return dataclasses.replace(default, **changed)


def _value(name: str, text: str, default: object) -> object:
    """The text in the type of the default. Raises: ConfigError, with the variable's name."""
    expected = type(default).__name__
    try:
        match default:
            case bool():
                return _is_true(text)
            case int():
                return int(text)
            case str():
                return text
            case tuple():
                expected = f"{len(default)} numbers, separated by commas"
                return tuple(_number(part) for _, part in zip(default, text.split(","), strict=True))
            case _:  # float, or None where a number can be given
                expected = "float"
                return _number(text)
    except ValueError as error:
        raise ConfigError(f"{name} is {text!r}, expected {expected}") from error


def _number(text: str) -> float:
    """Raises: ValueError for what is no number, or one that nothing can be compared with."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


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
