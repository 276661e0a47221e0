"""Names under which a literal value is likely to be a secret."""

from __future__ import annotations

import pytest

from tango.domain.literal_secrets import literal_secrets, looks_secret


@pytest.mark.parametrize(
    "name",
    [
        "DB_PASSWORD",
        "PASSWORD",
        "apiKey",
        "API_KEY",
        "AWS_SECRET_ACCESS_KEY",
        "GITHUB_TOKEN",
        "dbPasswd",
        "MYSQL_PWD",
        "APIKEY",
        "jwt",
    ],
)
def test_names_of_secrets_are_seen(name: str) -> None:
    """Whatever way its words are joined."""
    assert looks_secret(name)


@pytest.mark.parametrize(
    "name",
    [
        "MODE",
        "PWD",
        "DB_PASSWORD_FILE",
        "MAX_TOKENS",
        "TOKEN_LIMIT",
        "KEY",
        "SORT_KEY",
        "MONKEY",
        "TOKENIZER",
        "SECRET_NAME",
        "AUTHOR",
    ],
)
def test_names_that_only_speak_of_secrets_are_not(name: str) -> None:
    """A path to a secret, a number of tokens, a word that has another in it."""
    assert not looks_secret(name)


def test_only_literal_values_count_and_names_can_be_allowed() -> None:
    """A reference to a Secret has no secret in it, and neither has an empty value."""
    env = [
        {"name": "MODE", "value": "fast"},
        {"name": "DB_PASSWORD", "value": "hunter2"},
        {"name": "API_KEY", "valueFrom": {"secretKeyRef": {"name": "a", "key": "b"}}},
        {"name": "GITHUB_TOKEN", "value": ""},
        {"name": "CSRF_TOKEN", "value": "demo"},
    ]

    assert literal_secrets(env) == [1, 4]
    assert literal_secrets(env, {"CSRF_TOKEN"}) == [1]
