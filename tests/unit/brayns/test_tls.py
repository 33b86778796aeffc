"""TLS: who is believed to be a service, whatever address it is reached at."""

from __future__ import annotations

import asyncio
import ssl
from functools import partial
from pathlib import Path

import pytest

from airflow_brayns.brayns.command import NO_TLS, ServiceSpec
from airflow_brayns.brayns.endpoint import Endpoint
from airflow_brayns.brayns.readiness import ended_early, probe
from airflow_brayns.brayns.tls import client_context, make_key_pair
from airflow_brayns.errors import InvalidSetting, ServiceFailed

NAME = "ab-0123456789ab000"


@pytest.fixture(scope="module")
def pair():
    return make_key_pair(NAME)


@pytest.fixture
def service(emulator, pair, tmp_path: Path):
    """An emulator that proves itself with `pair`."""
    for name, text in (("key.pem", pair.key), ("cert.pem", pair.certificate)):
        (tmp_path / name).write_text(text)
    files = ["--private-key-file", str(tmp_path / "key.pem"), "--certificate-file", str(tmp_path / "cert.pem")]
    return emulator("--secure", "true", *files)


async def test_its_own_certificate_is_believed_at_any_address(service, pair) -> None:
    usable = await probe(Endpoint("127.0.0.1", service.port, client_context(pair.certificate, NAME)))
    assert usable.version == "3.10.1"


@pytest.mark.parametrize(("authority", "name"), [("other", NAME), ("own", "ab-ffffffffffff000"), ("", NAME)])
async def test_an_impostor_is_refused(service, pair, authority: str, name: str) -> None:
    """Another certificate of the same name, the right one for another allocation, one that the system would have to trust."""
    trusted = {"other": lambda: make_key_pair(NAME).certificate, "own": lambda: pair.certificate, "": lambda: ""}
    context = client_context(trusted[authority](), name)
    with pytest.raises(ServiceFailed, match=r"tls: look who .*\n +whoever answers at .* is not believed"):
        await probe(Endpoint("127.0.0.1", service.port, context))


def test_the_key_has_no_passphrase_and_the_certificate_signs_no_others(pair, tmp_path: Path) -> None:
    (tmp_path / "both.pem").write_text(pair.key + pair.certificate)
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tmp_path / "both.pem")
    from cryptography import x509

    basic = x509.load_pem_x509_certificate(pair.certificate.encode()).extensions.get_extension_for_class(
        x509.BasicConstraints
    )
    assert not basic.value.ca


def test_what_is_no_certificate_is_said_so() -> None:
    with pytest.raises(ValueError, match="not a certificate in PEM form"):
        client_context("-----BEGIN nonsense", NAME)


def test_files_in_the_allocation_and_elsewhere_are_quoted_as_paths() -> None:
    inside = ServiceSpec(
        certificate_file="$AB_FOLDER/tls/cert.pem", private_key_file="$AB_FOLDER/tls/key.pem", generation=3
    )
    assert '--private-key-file "$AB_FOLDER"/tls/key.pem --certificate-file "$AB_FOLDER"/tls/cert.pem' in inside.script()
    given = ServiceSpec(certificate_file="/x/$(touch y).pem", private_key_file="/x/a b.pem", generation=2)
    assert "--private-key-file '/x/a b.pem' --certificate-file '/x/$(touch y).pem'" in given.script()
    assert "passphrase" not in inside.script() + given.script()


def test_generation_1_has_none() -> None:
    files = {"certificate_file": "/c", "private_key_file": "/k"}
    with pytest.raises(InvalidSetting, match=r"tls: set .*\n +generation 1"):
        ServiceSpec(generation=1, **files)
    assert f"exit {NO_TLS}" in ServiceSpec(**files).script()
    assert "generation 1, which has none" in str(ended_early(NO_TLS, "", "", ()))


async def test_a_relay_for_clients_that_speak_no_tls_checks_the_certificate(service, pair) -> None:
    """What `open_endpoint` puts before the official client."""
    from airflow_brayns.services.tunnel import local_port

    async def through(context: ssl.SSLContext) -> bytes:
        async with local_port(partial(asyncio.open_connection, "127.0.0.1", service.port, ssl=context)) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            try:
                return await asyncio.wait_for(reader.read(15), 5)
            except ConnectionResetError:
                return b""
            finally:
                writer.close()

    assert (await through(client_context(pair.certificate, NAME))).startswith(b"HTTP/1.1 200")
    assert await through(client_context(make_key_pair(NAME).certificate, NAME)) == b""
