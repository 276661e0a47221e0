"""The publisher of commands that give work to the stack."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tango.errors import DependencyError

if TYPE_CHECKING:
    from workers.publisher import CeleryPublisher


def publisher() -> CeleryPublisher:
    """Publishes to this stack's broker. Celery takes half a second to import, which other commands do without.

    Raises: DependencyError where no broker is known, as while the database alone runs.
    """
    from tango.bootstrap.stores import stores

    if not stores().settings.broker_url:
        raise DependencyError(
            "the database runs and no broker is known: stop it with `tango down` and start the whole stack with `tango up --detach`, or "
            "set TANGO_BROKER_URL"
        )
    from workers.app import app
    from workers.publisher import CeleryPublisher

    return CeleryPublisher(app)
