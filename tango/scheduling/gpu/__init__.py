"""Placing pods that share GPUs: which node, and which of its devices.

    columns -> fitting -> fragmentation, published_scores, filling -> placing

Arrays of whole fleets go through compiled kernels; nothing here is imported by the engine or the live stack.
"""
