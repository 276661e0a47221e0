"""The headers by which an instance knows a request as one of Tango's workers (`tango.client.signatures`)."""

from __future__ import annotations

import time

from tango.client.signatures import INSTANCE, REQUEST, SIGNATURE, service_key, signature
from tango.domain.identity import PodKey
from tango.domain.requests import LcWork


class Signing:
    """Signs by one key, from which each service's is made once. With an empty key nothing is signed."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._of_service: dict[str, str] = {}

    def headers(self, work: LcWork, pod: PodKey) -> list[tuple[str, str]]:
        """Which request this is, which instance is meant, and the signature over both."""
        request, instance = f"{work.run_id}/{work.request_id}/{work.epoch}", str(pod)
        found = [(REQUEST, request), (INSTANCE, instance)]
        if self._key:
            key = self._of_service.get(work.service)
            if key is None:
                key = self._of_service[work.service] = service_key(self._key, work.service)
            found.append((SIGNATURE, signature(key, request=request, instance=instance, at_s=time.time())))
        return found
