"""Tokens of service accounts: whose they are, and which count for nothing."""

from __future__ import annotations

import pytest

from tango.emulation.api_server.account_tokens import AccountTokens
from tango.emulation.api_server.authorization import Authorizer, User, service_account
from tango.emulation.api_server.failures import Refused

TANGO = service_account("tango", "tango")


def test_a_token_is_its_account_s_after_a_restart_too() -> None:
    """By the same secret; the time at which it ends is told as the API writes times."""
    token, ends_at = AccountTokens(b"secret").make(TANGO, seconds=600)

    assert AccountTokens(b"secret").user(token) == TANGO == "system:serviceaccount:tango:tango"
    assert ends_at.endswith("Z")


@pytest.mark.parametrize("change", ["other secret", "over", "cut", "no token", "another's claims"])
def test_a_token_that_is_not_the_server_s_own_is_nobody_s(change: str) -> None:
    """Nor one that has ended."""
    tokens = AccountTokens(b"secret")
    token, _ = tokens.make(TANGO, seconds=-1 if change == "over" else 600)
    if change == "other secret":
        tokens = AccountTokens(b"another")
    head, claims, signature = token.split(".")
    other = tokens.make(service_account("tango", "root"), seconds=600)[0].split(".")[1]
    sent = {"cut": token[:-4], "no token": "§", "another's claims": f"{head}.{other}.{signature}"}.get(change, token)

    assert claims != other
    assert tokens.user(sent) is None


def test_who_comes_with_a_token_of_an_account_is_that_account() -> None:
    """In the groups that Kubernetes puts it into, and with no rights but what is bound to it."""
    authorizer = Authorizer({}, secret=b"secret")
    assert authorizer.account_tokens is not None
    token, _ = authorizer.account_tokens.make(TANGO, seconds=600)

    user = authorizer.user(f"Bearer {token}")

    assert user == User(TANGO, ("system:serviceaccounts", "system:serviceaccounts:tango"))
    with pytest.raises(Refused):
        authorizer.require(user, "list", "", "nodes")
    with pytest.raises(Refused):
        authorizer.user("Bearer x.y.z")
