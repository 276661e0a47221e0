"""Torch on one thread, as in a training: on a machine whose cores are busy, more of them wait for each other for minutes."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
