"""The best few candidates of a decision, and the sentence that says why one won."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import orjson
import pytest
from numpy.typing import NDArray

from tango.domain.candidates import (
    BE_LOSES,
    MOST_REFUSED,
    MOST_TOLD,
    SECONDS,
    Weighed,
    Weighing,
    read_back,
    shown,
    told,
    why_won,
    written,
)
from tango.domain.identity import RequestKey
from tango.domain.snapshot import FleetSnapshot
from tests.fakes.waiting_worlds import fleet

NODES = ("c1/n1", "c1/n2", "c2/n1", "c2/n2")


def seconds(*price: float, takes: tuple[bool, ...] = (True,) * 4, limit: float | None = None) -> Weighing:
    """Of four nodes, the link to c2 being 50 ms."""
    link = np.array([0.0, 0.0, 0.05, 0.05])
    of_nodes = np.array(price)
    return Weighing(
        policy="dss-lc",
        rule="the least expected time to the answer",
        price=of_nodes,
        takes=np.array(takes),
        unit=SECONDS,
        limit=limit,
        parts={"link": link, "work already there": of_nodes - link},
    )


def told_of(weighing: Weighing, chosen: int, *, moved: str = "") -> Weighed:
    """Of the four nodes of the worlds by hand."""
    return told(
        weighing,
        fleet(),
        request=RequestKey(1, 4711),
        epoch=2,
        chosen=chosen,
        refused=lambda n: f"it was full ({n})",
        moved=moved,
    )


def test_the_best_stand_first_and_what_could_not_take_it_says_why() -> None:
    """A node that is no candidate at all is not told of; of those that could not take it only such as were better."""
    found = told_of(seconds(0.02, 0.03, np.inf, 0.09, takes=(False, True, True, False)), 1)

    assert [(c.node, c.price, c.refused) for c in found.candidates] == [
        ("c1/n1", 0.02, "it was full (0)"),
        ("c1/n2", 0.03, ""),
    ]
    assert (found.chosen, found.takers) == ("c1/n2", 1)


@pytest.mark.parametrize(
    ("weighing", "chosen", "words"),
    [
        (
            seconds(0.02, 0.03, 0.07, 0.09),
            0,
            "c1/n1 had the least expected time to the answer, 20.0 ms; the next was c1/n2 with 30.0 ms, by work already there most of all: "
            "20.0 ms on c1/n1, 30.0 ms on c1/n2",
        ),
        (seconds(0.02, np.inf, np.inf, np.inf), 0, "c1/n1 was the only node that could take it, at 20.0 ms"),
        (
            seconds(0.02, 0.02, np.inf, np.inf),
            1,
            "c1/n2 had the least expected time to the answer, 20.0 ms, as had c1/n1; of equal ones the policy takes the first "
            "that it meets",
        ),
        (
            replace(seconds(0.02, 0.02, np.inf, np.inf), figures={BE_LOSES: np.array([1.0, 0.25, 1.0, 1.0])}),
            1,
            "c1/n2 had the least expected time to the answer, 20.0 ms, as had c1/n1; of equal ones the policy takes the one where BE "
            "loses least",
        ),
        (
            seconds(0.02, 0.03, np.inf, np.inf, takes=(False, True, True, True)),
            1,
            "c1/n2 was the only node that could take it, at 30.0 ms; c1/n1 would have been better (20.0 ms), but it was full (0)",
        ),
        (
            seconds(0.2, np.inf, np.inf, np.inf, limit=0.1),
            0,
            "c1/n1 was the only node that could take it, at 200.0 ms; no node was expected to take it within its 100.0 ms",
        ),
    ],
)
def test_a_sentence_says_why_the_chosen_one_won(weighing: Weighing, chosen: int, words: str) -> None:
    """The best of several, the only one, one of equals, one behind a node that was full, and one that is late all the same."""
    assert why_won(told_of(weighing, chosen)) == words


def test_a_request_that_was_sent_on_from_where_the_policy_would_have_had_it_says_so() -> None:
    """It is not said to have had the best price."""
    found = told_of(seconds(0.02, 0.03, 0.07, 0.09), 1, moved="it had failed on c1/n1, which was the best, the time before")

    assert why_won(found) == "it had failed on c1/n1, which was the best, the time before, and so went to c1/n2 at 30.0 ms"


def test_of_scores_the_highest_wins() -> None:
    """And a part that is more speaks for a node."""
    scores = np.array([0.5, 0.9, 0.7, 0.1])
    weighing = Weighing(
        policy="scoring",
        rule="the highest sum",
        price=scores,
        takes=np.ones(4, np.bool_),
        highest_wins=True,
        parts={"free memory": scores},
    )

    found = told_of(weighing, 1)

    assert [c.node for c in found.candidates] == ["c1/n2", "c2/n1", "c1/n1", "c2/n2"]
    assert why_won(found).startswith("c1/n2 had the highest sum, 0.9; the next was c2/n1 with 0.7, by free memory most of all")


def test_of_a_large_fleet_a_few_are_told_and_the_chosen_one_always() -> None:
    """Whatever its place: a policy may have sent it on."""
    count = 200
    price = np.arange(count, dtype=np.float64)
    weighing = replace(seconds(0.0, 0.0, 0.0, 0.0), price=price, takes=price >= 20, parts={}, figures={"nodes": price})

    found = told(
        weighing, of_many(count), request=RequestKey(1, 1), epoch=1, chosen=150, refused=lambda n: "full", moved="it was sent on"
    )

    could = [c.node for c in found.candidates if not c.refused]
    assert could == ["c/n20", "c/n21", "c/n22", "c/n23", "c/n150"]
    assert len(could) == MOST_TOLD
    assert [c.node for c in found.candidates if c.refused] == ["c/n0", "c/n1", "c/n2"][:MOST_REFUSED]
    assert found.takers == 180


def test_what_is_written_is_read_back_and_little() -> None:
    """As JSON, which a decision keeps: about a KiB for a request."""
    found = told_of(seconds(0.02, 0.03, 0.07, 0.09, limit=0.1), 0)

    text = written([found, replace(found, request_id=4712)])

    assert read_back(orjson.loads(text)) == (found, replace(found, request_id=4712))
    assert len(text) < 4096
    assert written([]) == ""


def test_pages_get_the_words_with_the_figures() -> None:
    """Each node with its price in words and what it is made of."""
    found = shown(told_of(seconds(0.02, 0.03, 0.07, 0.09), 0))

    assert (found["request"], found["epoch"], found["chosen"]) == ("1/4711", 2, "c1/n1")
    assert found["why"] == why_won(told_of(seconds(0.02, 0.03, 0.07, 0.09), 0))
    assert found["nodes"][2]["price_words"] == "70.0 ms"
    assert found["nodes"][2]["made_of"] == "link 50.0 ms + work already there 20.0 ms"


def of_many(count: int) -> FleetSnapshot:
    """One cluster of so many nodes, of which nothing but the names is looked at."""
    rows: NDArray[np.int32] = np.zeros(count, np.int32)
    return replace(fleet(), clusters=("c",), nodes=tuple(f"n{k}" for k in range(count)), node_cluster=rows)
