"""Pure decisions: where LC requests go, where BE requests are placed, who gives CPU to whom. No clock, no network, no torch."""

from tango.scheduling.warm import warm_up, warm_up_be

__all__ = ["warm_up", "warm_up_be"]
