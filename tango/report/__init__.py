"""Presentation of results: tables for a terminal, HTML pages and SVG charts, from the columns of `tango.domain` and `tango.analysis`."""

from tango.report.page import render_report

__all__ = ["render_report"]
