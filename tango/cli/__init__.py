"""The `tango` command: parse, call one use case, report. The only room that knows click."""
