"""What callers ask by headers, what goes on to instances, and what comes back."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from tango.gateway.headers import HOP_BY_HOP, Sorting, forwarded, given_back, wishes_of
from tango.gateway.problems import Problem
from tango.settings import GatewaySettings

DEFAULT = Sorting(GatewaySettings().kept_headers)


def test_without_headers_nothing_is_wished() -> None:
    """The service says the rest."""
    wishes = wishes_of(CIMultiDict())

    assert (wishes.target_s, wishes.timeout_s, wishes.may_repeat, wishes.key, wishes.is_async) == (None, None, None, "", False)


def test_wishes_are_read_in_any_case_and_with_spaces() -> None:
    """As HTTP has it."""
    wishes = wishes_of(
        CIMultiDict(
            {
                "tango-target-ms": " 12.5 ",
                "TANGO-TIMEOUT-MS": "400",
                "Tango-Repeat": "no",
                "Tango-Key": "k",
                "Prefer": "wait=5;x, Respond-Async",
            }
        )
    )

    assert (wishes.target_s, wishes.timeout_s, wishes.may_repeat, wishes.key, wishes.is_async) == (0.0125, 0.4, False, "k", True)


@given(st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=20))
def test_any_text_is_a_number_above_0_or_a_problem(text: str) -> None:
    """Nothing in between: no infinity, no number that overflows, no other exception."""
    found = None
    with contextlib.suppress(Problem):
        found = wishes_of(CIMultiDict({"Tango-Timeout-Ms": text})).timeout_s

    assert found is None or 0.0 < found <= 3600.0


def test_a_header_twice_is_a_problem() -> None:
    """Which of both counts, nobody could say."""
    twice = CIMultiDict([("Tango-Repeat", "yes"), ("Tango-Repeat", "no")])

    with pytest.raises(Problem, match="found 'yes', 'no', expected yes or no, once"):
        wishes_of(twice)


def test_what_speaks_of_one_connection_does_not_go_on() -> None:
    """RFC 9110, section 7.6.1, with the fields that Connection names; both ways."""
    sent = [(name, "x") for name in sorted(HOP_BY_HOP - {"connection"})]
    sent += [
        ("Connection", "X-One, x-two"),
        ("X-One", "1"),
        ("X-Two", "2"),
        ("X-Three", "3"),
        ("Host", "h"),
        ("Content-Length", "1"),
    ]

    assert DEFAULT.of(CIMultiDict(sent)) == ((("X-Three", "3"),), ())
    assert list(given_back(sent).items()) == [("X-Three", "3"), ("Host", "h"), ("Content-Length", "1")]


def test_what_no_list_names_is_held_and_headers_of_ours_do_not_go_on() -> None:
    """What is kept lies in the journal for a while; `Authorization` goes on where the token for Tango stood elsewhere."""
    sent = CIMultiDict(
        {
            "Cookie": "c",
            "Authorization": "Bearer t",
            "Tango-Key": "k",
            "Accept": "*/*",
            "Accept-Language": "de",
            "X-A": "1",
            "Other": "o",
        }
    )

    def names(sorting: Sorting, *further: tuple[str, str]) -> list[list[str]]:
        return [[name for name, _ in part] for part in sorting.of(CIMultiDict([*sent.items(), *further]))]

    assert names(DEFAULT) == [["Accept", "Accept-Language", "X-A"], ["Cookie", "Other"]]
    assert names(DEFAULT, ("Tango-Token", "t"))[1] == ["Cookie", "Authorization", "Other"]
    assert names(Sorting("cookie, authorization, tango-*")) == [["Cookie"], ["Accept", "Accept-Language", "X-A", "Other"]]


def test_what_a_proxy_before_the_gateway_has_said_of_the_caller_stands() -> None:
    """And the gateway adds who is connected to it."""
    sent = CIMultiDict(
        [("Host", "inner"), ("X-Forwarded-Host", "shop"), ("X-Forwarded-Proto", "https"), ("X-Forwarded-For", "a, b")]
    )

    found = forwarded(sent, scheme="http", peer="127.0.0.1")

    assert [found[f"X-Forwarded-{name}"] for name in ("Host", "Proto", "For")] == ["shop", "https", "a, b, 127.0.0.1"]
    assert "X-Forwarded-For" not in forwarded(CIMultiDict(), scheme="http", peer=None)


def test_an_instance_cannot_speak_for_the_gateway() -> None:
    """Its answer is not taken for a problem of the gateway's."""
    assert list(given_back([("Tango-Problem", "shed"), ("Tango-Request", "1-1"), ("A", "b")])) == ["A"]


@pytest.mark.parametrize("name", ["X-Api-Key", "x-auth-token", "X-Amz-Security-Token", "X-Client-Secret"])
def test_a_secret_is_held_though_its_name_begins_as_one_that_may_be_kept(name: str) -> None:
    """Unless it is named itself; what only identifies a call is kept."""
    sent = CIMultiDict({name: "hush", "X-Request-Id": "7"})

    assert DEFAULT.of(sent) == ((("X-Request-Id", "7"),), ((name, "hush"),))
    assert Sorting(f"x-*, {name}").of(sent)[1] == ()


def test_the_host_goes_on_only_where_the_service_says_so() -> None:
    """It may be kept: whoever dispatches a request again sends the same one."""
    sent = CIMultiDict({"Host": "shop.example"})

    assert DEFAULT.of(sent) == ((), ())
    assert DEFAULT.of(sent, preserve_host=True) == ((("Host", "shop.example"),), ())
