"""Kubernetes: a raw JSON client on the official library, a watch-fed cache, the gateway and the cluster agent."""
