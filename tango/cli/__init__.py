"""Commands of `tango`. Each parses its arguments, calls one use case and prints the result; only this package imports click."""
