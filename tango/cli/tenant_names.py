"""The type of options that name a tenant."""

from __future__ import annotations

from typing import Any

import click
from click.shell_completion import CompletionItem

from tango.cli import names
from tango.domain.tenants import is_tenant_name


class TenantName(click.ParamType[str]):
    """A name that a tenant may have, declared or not."""

    name = "tenant"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Fails for a text that is none."""
        if not is_tenant_name(str(value)):
            self.fail(
                f"{value!r} is no tenant, expected at most 63 of a-z, 0-9 and `-`, with a letter or digit first and last",
                param,
                ctx,
            )
        return str(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Those that are declared."""
        return names.TENANTS(ctx, param, incomplete)
