"""What a job has written, for whoever looks: from its pod by the API server of its cluster while that runs, afterwards from the store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tango.bootstrap.stores import Stores
from tango.domain.identity import RequestKey, parts_of_pod
from tango.domain.jobs import Job
from tango.domain.requests import RequestState
from tango.errors import ClusterError, UsageError
from tango.kube.api_client import KubeClient
from tango.kube.manifests import WORKLOAD_CONTAINER

LOOK_EVERY_S = 0.3
"""Seconds between two looks at a job that does not run yet, or whose end is not in the store yet."""
IDLE_S = 3600.0
"""Seconds that a followed log may be silent: then its job is looked at again."""


class JobLogs:
    """Writes logs of jobs, block by block as they come; `say` is told which attempt they are of."""

    def __init__(self, here: Stores, *, write: Callable[[bytes], None], say: Callable[[str], None]) -> None:
        self._here, self._write, self._say = here, write, say

    def show(self, key: RequestKey, *, container: str = "", follow: bool = False) -> None:
        """What there is of the job's last attempt; with `follow` all that comes until the job has ended.

        Raises: UsageError for a job, or a container of it, that there is not; ClusterUnavailable where its cluster does not answer.
        """
        asyncio.run(self._shown(key, container, follow))

    async def _shown(self, key: RequestKey, container: str, follow: bool) -> None:
        jobs, streamed = self._here.jobs, set[str]()
        wanted = container or self._own_container(jobs.job(key))
        while True:
            job = jobs.job(key)
            if job.has_ended:
                if job.pod not in streamed:
                    self._kept(job, wanted, asked=bool(container))
                return
            runs = job.state in (RequestState.PLACED, RequestState.RUNNING) and bool(job.pod)
            if runs and job.pod not in streamed:
                try:
                    if job.attempts > 1:
                        self._say(f"attempt {job.attempts}, on {job.cluster}/{job.node}")
                    await self._stream(job, wanted, follow)
                    streamed.add(job.pod)
                except ClusterError as error:
                    # It waits for its start, or has just been deleted: what is kept of it is found when it has ended.
                    if container and "is not valid for pod" in str(error):
                        raise UsageError(f"job {key} has no container {container!r}") from error
                    if not follow:
                        self._say(f"job {key} is {job.state} and has written nothing yet")
            elif not follow:
                self._say(f"job {key} is {job.state} and has written nothing yet")
            if not follow:
                return
            await asyncio.sleep(LOOK_EVERY_S)

    async def _stream(self, job: Job, container: str, follow: bool) -> None:
        kube = self._here.settings.kube
        path, context = self._here.fleet.credentials(job.cluster)
        namespace, name = parts_of_pod(job.pod)
        path_of_log = f"/api/v1/namespaces/{namespace or kube.namespace}/pods/{name}/log"
        query = {"container": container, **({"follow": "true"} if follow else {})}
        async with await KubeClient.from_kubeconfig(path, context, kube, cluster=job.cluster) as client:
            async for block in client.stream(path_of_log, query=query, idle_s=IDLE_S):
                self._write(block)

    def _kept(self, job: Job, container: str, *, asked: bool) -> None:
        logs = self._here.jobs.log(job.key)
        of_last = [log for epoch, log in logs if epoch == max(e for e, _ in logs)]
        found = next((log for log in of_last if log.container == container), None)
        if found is None:
            names = ", ".join(log.container for log in of_last)
            if asked and of_last:
                raise UsageError(f"job {job.key} has kept no log of a container {container!r}; there are: {names}")
            self._say(f"nothing is kept of what job {job.key} has written: it never ran, or its logs were too old")
            return
        if not found.is_whole:
            self._say(f"the last {len(found.tail):,} bytes; what came before is not kept")
        self._write(found.tail)

    def _own_container(self, job: Job) -> str:
        found = next((s.container for s in self._here.fleet.services() if s.name == job.service), "")
        return found or WORKLOAD_CONTAINER
