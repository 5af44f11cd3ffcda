"""Equipment for developing and testing, not part of the product."""
