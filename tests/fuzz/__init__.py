"""Mutated files at every door: each is taken, or refused by name; anything else is a failure.

`mutations` makes inputs of good ones, `doors` has the doors with their good inputs and the errors by which they refuse, and `child` drives
a door in a process of its own, since an input may end the process.
"""
