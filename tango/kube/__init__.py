"""Kubernetes: a client for one API server, a watch-fed cache (informer), and the calls to all clusters and to instances."""
