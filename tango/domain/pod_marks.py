"""Labels and annotations by which Tango's parts tell each other what a pod is. People may not use the prefix in their templates."""

from __future__ import annotations

OWNED = "tango/"
"""Prefix of labels and annotations that Tango puts on its pods."""
MANAGED_BY = "app.kubernetes.io/managed-by"
"""Label by which Tango knows its pods: those that it made, and may therefore delete."""
CONTAINER = "tango/container"
"""Annotation of pods made of a template: which container is the service's."""
PORT = "tango/port"
"""Annotation likewise: at which port an instance answers."""
REVISION = "tango/revision"
"""Annotation likewise: of which template an instance was made; of another one it is replaced."""
WORK = "tango/cpu-work-s"
"""Annotation likewise: the CPU-seconds that a node model takes a BE pod to need."""
COMMAND_FROM = "tango/command-from"
"""Annotation of a pod whose command is its request's own: `caller`, or `local-user`. What runs pods without isolation looks at it."""
