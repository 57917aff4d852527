"""Certificates: read, judge and issue them, and decide which authorities the services trust.

An authority is what the field calls a CA: a key whose own certificate clients trust, so that they accept every
certificate that it signs. Three settings decide which one counts:

- TLS_MODE=self-signed: the deployment has a CA of its own. `authority` creates it once, and issues the certificate.
- TLS_MODE=provided: the operator's CA issued the certificate. `provided` finds it, and `certificates` inspects it.
- TLS_CA_PATH: a private CA, which the services trust beside the public roots. `trust_store` makes that bundle.

`plan` decides what a run has to write. `certificates`, `chains` and `authority` import `cryptography`, so whoever needs
them imports them inside a function.
"""

__all__ = ["certificates", "chains", "pem", "plan", "provided", "trust_store"]
