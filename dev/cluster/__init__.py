"""A real Kubernetes for development and tests: one that is given, kind, or the processes of this machine.

Standard library only: it runs before any virtual environment exists.
"""
