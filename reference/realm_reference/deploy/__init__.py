"""Deployments of the server: from one file to processes on this machine, or to the manifests of others.

It knows the server as an operator does: by the command line of `realm serve`, by the paths in `probes`, by
its log lines. It imports nothing of the server itself.
"""
