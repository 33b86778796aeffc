"""TLS between a client and a braynsService: a certificate for each allocation, and contexts that accept nothing else.

braynsService (2.0 to 3.10.1) never asks its client for a certificate: TLS hides what passes and proves who serves; it
does not keep anybody out.
"""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

_VALID_DAYS = 400  # a certificate lives longer than any allocation; some programs refuse more than 825 days


@dataclass(frozen=True)
class KeyPair:
    """A private key and its self-signed certificate, both PEM."""

    key: str
    certificate: str


def make_key_pair(name: str) -> KeyPair:
    """A key pair for one allocation.

    :param name: the name that the certificate is for, the allocation's; `client_context` demands it again.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.x509.oid import NameOID

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    # Whoever trusts this one certificate may also reach it through a tunnel of their own.
    local = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    names = [x509.DNSName(name), *local]
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))  # clocks differ
        .not_valid_after(now + timedelta(days=_VALID_DAYS))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    return KeyPair(private.decode(), certificate.public_bytes(serialization.Encoding.PEM).decode())


class _Named(ssl.SSLContext):
    """A TLS context that demands a certificate of one name, whatever address is connected to: a tunnel's is this
    machine's.
    """

    server_name: str

    def wrap_bio(self, *arguments: Any, **options: Any) -> ssl.SSLObject:
        """See `ssl.SSLContext.wrap_bio`, which asyncio calls."""
        return super().wrap_bio(*arguments, **{**options, "server_hostname": self.server_name})


def client_context(authority: str, server_name: str) -> ssl.SSLContext:
    """A context that accepts a service with a certificate by `authority` for `server_name`, and no other.

    :param authority: PEM of the allocation's own certificate, or of a site's authority; empty for those the system
        trusts.
    :raises ValueError: `authority` is no certificate.
    """
    context = _Named(ssl.PROTOCOL_TLS_CLIENT)
    context.server_name = server_name
    if authority:
        try:
            context.load_verify_locations(cadata=authority)
        except ssl.SSLError as error:
            raise ValueError(f"not a certificate in PEM form: {error}") from None
    else:
        context.load_default_certs()
    return context
