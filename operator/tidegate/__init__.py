"""Tidegate: a Kubernetes operator that turns a build request into merged commits."""

__version__ = "0.1.0"
