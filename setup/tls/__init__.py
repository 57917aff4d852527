"""Certificates: read, judge, issue, trust."""

__all__ = ["authority", "certificates", "pem", "plan", "provided", "trust_store"]
