"""A cluster's own authority, what it signs, and the files that hold it."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12

from minikafka import certificates, privacy
from minikafka.errors import UsageError
from minikafka.security.certificate import certificates_in_pem, read_certificate
from minikafka.security.secret import Secret

NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
HOSTS = ("localhost", "127.0.0.1", "::1")


@pytest.fixture(scope="module")
def authority() -> certificates.Issued:
    return certificates.new_authority("test authority", now=NOW)


def certificate_of(issued: certificates.Issued) -> x509.Certificate:
    (found,) = x509.load_pem_x509_certificates(issued.chain.encode())
    return found


def test_a_certificate_is_for_its_hosts_both_sides_and_a_year(
    authority: certificates.Issued,
) -> None:
    issued = certificates.issue(authority, "broker-1", HOSTS, now=NOW)
    certificate = certificate_of(issued)
    certificate.verify_directly_issued_by(certificate_of(authority))
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert names.get_values_for_type(x509.IPAddress) == [ip_address("127.0.0.1"), ip_address("::1")]
    assert {each._name for each in usage} == {"serverAuth", "clientAuth"}
    assert constraints.ca is False
    assert certificate.not_valid_after_utc == NOW + timedelta(days=365)
    assert certificate.public_key().key_size == 256  # type: ignore[union-attr]


def test_our_own_reader_reads_what_is_issued(authority: certificates.Issued) -> None:
    issued = certificates.issue(authority, "broker-1", HOSTS, now=NOW)
    (der,) = certificates_in_pem(issued.chain)
    read = read_certificate(der)
    assert read.distinguished_name == "CN=broker-1"
    assert read.alternative_names == {
        b"\x82\x09localhost",
        b"\x87\x04\x7f\x00\x00\x01",
        b"\x87\x10" + b"\0" * 15 + b"\1",
    }
    assert read.not_before_ms == int((NOW - timedelta(minutes=5)).timestamp() * 1000)
    assert read.not_after_ms == int((NOW + timedelta(days=365)).timestamp() * 1000)


def test_an_authority_lasts_ten_years_and_signs_no_other_one(
    authority: certificates.Issued,
) -> None:
    certificate = certificate_of(authority)
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert (constraints.ca, constraints.path_length) == (True, 0)
    assert certificate.not_valid_after_utc > NOW + timedelta(days=3650)
    last_days = certificates.issue(authority, "a", now=NOW + timedelta(days=3600))
    assert certificate_of(last_days).not_valid_after_utc == certificate.not_valid_after_utc
    with pytest.raises(UsageError, match="ended on 2040"):
        certificates.issue(authority, "a", now=NOW + timedelta(days=3653))


def test_files_with_keys_are_for_their_owner_alone_from_the_beginning(tmp_path: Path) -> None:
    folder = tmp_path / "security"
    made: list[int] = []
    real = os.open

    def watched(path: Path, flags: int, mode: int) -> int:
        descriptor = real(path, flags, mode)
        made.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        return descriptor

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(privacy.os, "open", watched)
        authority = certificates.write_authority(folder, "authority")
        certificates.write_issued(folder, authority, "broker-1", HOSTS)
    assert made == [0o600] * 3
    assert sorted(each.name for each in folder.iterdir()) == ["broker-1.pem", "ca.crt", "ca.key"]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_nothing_is_made_twice_and_renewing_keeps_the_authority(tmp_path: Path) -> None:
    authority = certificates.write_authority(tmp_path, "authority")
    path = certificates.write_issued(tmp_path, authority, "broker-1", HOSTS)
    first = path.read_text()
    assert certificates.write_authority(tmp_path, "another") == authority
    assert certificates.write_issued(tmp_path, authority, "broker-1", HOSTS) == path
    assert path.read_text() == first
    certificates.write_issued(tmp_path, authority, "broker-1", HOSTS, renew=True)
    (old,), (new,) = (certificates_in_pem(each) for each in (first, path.read_text()))
    assert old != new
    assert read_certificate(old).distinguished_name == read_certificate(new).distinguished_name
    x509.load_der_x509_certificate(new).verify_directly_issued_by(certificate_of(authority))


def test_half_an_authority_is_refused(tmp_path: Path) -> None:
    certificates.write_authority(tmp_path, "authority")
    (tmp_path / "ca.key").unlink()
    with pytest.raises(UsageError, match=r"one of ca\.key and ca\.crt"):
        certificates.write_authority(tmp_path, "authority")


@pytest.mark.parametrize("name", ["", "x" * 65])
def test_a_name_that_no_certificate_can_have_is_refused(
    authority: certificates.Issued, name: str
) -> None:
    with pytest.raises(UsageError, match="1 to 64 characters"):
        certificates.issue(authority, name, now=NOW)


@pytest.mark.parametrize("name", ["", "../up", ".hidden", "a\0b"])
def test_a_name_that_no_file_should_have_is_refused(
    tmp_path: Path, authority: certificates.Issued, name: str
) -> None:
    with pytest.raises(UsageError, match="no name for a file"):
        certificates.write_issued(tmp_path, authority, name)


@pytest.mark.parametrize("host", ["", "ü.example", "x" * 254])
def test_a_host_that_is_none_is_refused(authority: certificates.Issued, host: str) -> None:
    with pytest.raises(UsageError, match="is no host"):
        certificates.issue(authority, "a", [host], now=NOW)


def test_another_authority_key_is_refused(authority: certificates.Issued) -> None:
    other = certificates.new_authority("other", now=NOW)
    mixed = certificates.Issued(other.key, authority.chain)
    with pytest.raises(UsageError, match="does not fit"):
        certificates.issue(mixed, "a", now=NOW)


def test_a_pkcs12_file_gives_its_key_and_its_chain_in_order(
    authority: certificates.Issued,
) -> None:
    issued = certificates.issue(authority, "a", now=NOW)
    key = serialization.load_pem_private_key(issued.key.reveal().encode(), None)
    others = [certificate_of(certificates.new_authority("x")), certificate_of(authority)]
    data = pkcs12.serialize_key_and_certificates(
        b"a",
        key,  # type: ignore[arg-type]
        certificate_of(issued),
        others,
        serialization.BestAvailableEncryption(b"swordfish"),
    )
    read = certificates.read_pkcs12(data, Secret("swordfish"), "the file")
    assert read.key == issued.key
    assert read.chain == issued.chain + authority.chain
    for password in (None, Secret("wrong")):
        with pytest.raises(UsageError, match="the file is not a PKCS12 file") as refused:
            certificates.read_pkcs12(data, password, "the file")
        assert "wrong" not in str(refused.value)


def test_without_cryptography_the_extra_is_named(tmp_path: Path) -> None:
    (tmp_path / "cryptography.py").write_text("raise ImportError")
    program = (
        "from minikafka.errors import UsageError\n"
        "try:\n    from minikafka import certificates\n"
        "except UsageError as error:\n    print(error)"
    )
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{os.getcwd()}"}
    answer = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60
    )
    assert "minikafka[security]" in answer.stdout
