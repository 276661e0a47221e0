"""What people look at: a run's figures as tables for a terminal and as one HTML page, made from columns of `tango.domain`."""

from tango.report.page import render_report

__all__ = ["render_report"]
