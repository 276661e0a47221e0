"""Pure decisions: where LC requests go, where BE requests are placed, who gives CPU to whom. No clock, no network, no torch."""
