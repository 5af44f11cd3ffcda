"""Small exact functions on whole numbers."""

__version__ = "0.1.0"
