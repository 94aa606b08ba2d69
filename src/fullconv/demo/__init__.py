"""Embedded demo data and the demo itself."""
