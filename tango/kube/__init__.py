"""Kubernetes: a client for one API server, a watch-fed cache (informer), the gateway to all clusters, and the cluster agent."""
