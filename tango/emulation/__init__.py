"""Emulated clusters: an embedded API server, virtual kubelets and a workload program, each speaking only public protocols."""
