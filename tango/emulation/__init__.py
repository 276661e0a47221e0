"""The embedded world: an API server, virtual kubelets and the workload service, each speaking only public protocols."""
