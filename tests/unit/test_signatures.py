"""Which requests Tango has sent, as a service finds it out in one call."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tango.client import is_signed
from tango.client.signatures import KEY_VARIABLE, LASTS_S, service_key, signature
from tango.domain.identity import NodeKey, PodKey
from tango.domain.requests import LcWork
from tango.kube.signing import Signing

KEY = service_key("k" * 32, "web")
POD = PodKey("c1", "lc-web-n1-0")


def sent(key: str = "k" * 32, *, epoch: int = 1) -> dict[str, str]:
    """Headers of a request as a worker sends it."""
    work = LcWork(
        run_id=12,
        request_id=250017,
        epoch=epoch,
        service="web",
        entry_cluster="c1",
        node=NodeKey("c1", "n1"),
        due_s=0.0,
        target_s=0.1,
        cpu_work_s=0.01,
        memory_mib=1.0,
    )
    return dict(Signing(key).headers(work, POD))


def test_what_a_worker_has_sent_is_known_in_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the case of the names, for this instance alone where it says which it is; the key is where the environment has it."""
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    headers = sent()

    assert is_signed(headers)
    assert is_signed({name.lower(): value for name, value in headers.items()}, instance=str(POD))
    assert not is_signed(headers, instance="c1/lc-web-n2-0")
    assert not is_signed(headers, key=service_key("k" * 32, "chat"))
    assert not is_signed({**headers, "Tango-Request": sent(epoch=2)["Tango-Request"]})


def test_without_a_key_nothing_is_signed_and_nothing_can_be_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """To take everything then would look like a check."""
    monkeypatch.delenv(KEY_VARIABLE, raising=False)

    assert set(sent("")) == {"Tango-Request", "Tango-Instance"}
    with pytest.raises(ValueError, match="set TANGO_SERVICE_KEY; `tango service key NAME` prints it"):
        is_signed(sent())


@pytest.mark.parametrize(
    ("off_s", "holds"), [(0.0, True), (LASTS_S - 2, True), (-LASTS_S + 2, True), (LASTS_S + 2, False), (-1e9, False)]
)
def test_a_signature_holds_for_a_time(off_s: float, holds: bool) -> None:
    """As far as clocks may differ, either way."""
    headers = {"Tango-Request": "1/2/3", "Tango-Instance": str(POD)}
    headers["Tango-Signature"] = signature(KEY, request="1/2/3", instance=str(POD), at_s=1_800_000_000.0)

    assert is_signed(headers, key=KEY, now_s=1_800_000_000.0 + off_s) == holds


@given(st.text(max_size=80), st.text(max_size=20), st.text(max_size=20))
def test_no_other_text_is_a_signature(text: str, request: str, instance: str) -> None:
    """And none makes it fail otherwise."""
    assert not is_signed({"Tango-Request": request, "Tango-Instance": instance, "Tango-Signature": text}, key=KEY)
