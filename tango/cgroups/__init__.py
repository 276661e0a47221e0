"""Control groups of the Linux kernel, version 1 and 2: their files, their rules, where a kubelet puts those of a pod, their accounts.

    knobs.py       what can be set (`Knob`), by which file in which version, and how Kubernetes' amounts become the kernel's
    groups.py      `Group`: read a knob, write it, read it back; what the kernel has accounted; `Hierarchy`: which version is mounted
    open_groups.py `OpenGroup`: the same accounts by files that stay open, for whoever looks again and again
    pod_groups.py  the groups of a pod and its containers, by UID and container id

Nothing here decides anything. It imports the standard library alone, so that it runs where little else does.

Source: Linux, Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/memory.rst, scheduler/sched-bwc.rst; kernel/sched/core.c and fair.c.
"""
