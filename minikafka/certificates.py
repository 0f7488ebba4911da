"""A certificate authority of a cluster's own, and what it signs; and keys in forms that `ssl` and
gRPC cannot read by themselves. The one importer of `cryptography`, which is in the extra
`security`: import this module late.

    ca.key  ca.crt            the authority: ten years
    NAME.pem                  a key and the certificates that go with it: one year

Keys are on the curve P-256, each in a file that is made for its owner alone. Nothing is overwritten
in place: a new file takes the place of an old one whole, so who reads sees the one or the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

from minikafka.errors import UsageError
from minikafka.privacy import write_private
from minikafka.security.secret import Secret

try:
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
    from cryptography.hazmat.primitives.serialization import pkcs12
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
except ImportError:
    raise UsageError(
        "this needs the package cryptography: pip install 'minikafka[security]'"
    ) from None

CA_LIFETIME = timedelta(days=3652)
LIFETIME = timedelta(days=365)
_BACKDATED = timedelta(minutes=5)  # clocks differ

_PEM, _PKCS8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
_DIGITAL_SIGNATURE = {"digital_signature": True}
_SIGNS_CERTIFICATES = {"key_cert_sign": True, "crl_sign": True}
_USAGES = (
    *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment"),
    *("key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
)


@dataclass(frozen=True, slots=True)
class Issued:
    """A key and its certificates, its own first, as PEM. `chain` of an authority: its own alone."""

    key: Secret
    chain: str

    @property
    def pem(self) -> Secret:
        """Both, as Kafka's ssl.keystore.location has them."""
        return Secret(self.key.reveal() + self.chain)


class KeyAndTrust(NamedTuple):
    """What a PKCS12 file holds, as PEM."""

    key: Secret | None
    chain: str
    others: str


# --- issuing -------------------------------------------------------------------------------------


def new_authority(name: str, *, now: datetime | None = None) -> Issued:
    """`name`: its common name, 1 to 64 characters."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name(name)
    builder = _builder(subject, subject, key.public_key(), now, CA_LIFETIME)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(_SIGNS_CERTIFICATES), critical=True)
    return Issued(_key_pem(key), _pem([builder.sign(key, hashes.SHA256())]))


def issue(
    authority: Issued, name: str, hosts: Sequence[str] = (), *, now: datetime | None = None
) -> Issued:
    """A key with a certificate for servers and clients, whose common name is `name`. `hosts`: names
    and addresses that the server is reached by. A certificate ends no later than its authority."""
    signer = _load_key(authority.key.reveal(), None, "the key of the authority")
    (issuer, *_) = x509.load_pem_x509_certificates(authority.chain.encode())
    if not isinstance(signer, ec.EllipticCurvePrivateKey):
        raise UsageError("the key of the authority is not on an elliptic curve")
    if signer.public_key() != issuer.public_key():
        raise UsageError("the key of the authority does not fit its certificate")
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(_name(name), issuer.subject, key.public_key(), now, LIFETIME, issuer)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
    builder = builder.add_extension(_usage(_DIGITAL_SIGNATURE), critical=True)
    both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    builder = builder.add_extension(x509.ExtendedKeyUsage(both), critical=False)
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
    )
    if hosts:
        names = x509.SubjectAlternativeName(_alternative_names(hosts))
        builder = builder.add_extension(names, critical=False)
    return Issued(_key_pem(key), _pem([builder.sign(signer, hashes.SHA256())]))


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    now: datetime | None,
    lifetime: timedelta,
    authority: x509.Certificate | None = None,
) -> x509.CertificateBuilder:
    now = now or datetime.now(UTC)
    ends = now + lifetime
    if authority is not None:
        ends = min(ends, authority.not_valid_after_utc)
        if ends <= now:
            raise UsageError(
                f"the certificate of the authority ended on {ends:%Y-%m-%d}: make a new authority"
            )
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _name(common_name: str) -> x509.Name:
    try:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    except ValueError:
        raise UsageError(
            f"'{common_name[:80]}' is no name for a certificate: expected 1 to 64 characters"
        ) from None


def _alternative_names(hosts: Iterable[str]) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = []
    for host in hosts:
        try:
            names.append(x509.IPAddress(ip_address(host)))
        except ValueError:
            if not host.isascii() or not host or len(host) > 253:
                raise UsageError(f"'{host[:80]}' is no host: expected a name or address") from None
            names.append(x509.DNSName(host))
    return names


def _usage(granted: dict[str, bool]) -> x509.KeyUsage:
    return x509.KeyUsage(**(dict.fromkeys(_USAGES, False) | granted))


def _pem(certificates: Iterable[x509.Certificate]) -> str:
    return "".join(each.public_bytes(_PEM).decode() for each in certificates)


# --- files ---------------------------------------------------------------------------------------


def write_authority(folder: Path, name: str) -> Issued:
    """That of `folder`, which is made with it if there is none. Never a second one."""
    key_file, certificate_file = folder / "ca.key", folder / "ca.crt"
    if key_file.exists() and certificate_file.exists():
        return Issued(Secret(key_file.read_text()), certificate_file.read_text())
    if key_file.exists() or certificate_file.exists():
        raise UsageError(
            f"{folder} holds one of ca.key and ca.crt: put the other one back, or remove it"
        )
    made = new_authority(name)
    write_private(certificate_file, made.chain)
    write_private(key_file, made.key.reveal())
    return made


def write_issued(
    folder: Path, authority: Issued, name: str, hosts: Sequence[str] = (), *, renew: bool = False
) -> Path:
    """The file NAME.pem in `folder`; one that is there stays, unless it is to be renewed: another
    key, under the same authority, for the same name."""
    if not name or name.startswith(".") or "/" in name or "\0" in name:
        raise UsageError(f"'{name[:80]}' is no name for a file: expected one without /")
    path = folder / f"{name}.pem"
    if renew or not path.exists():
        write_private(path, issue(authority, name, hosts).pem.reveal())
    return path


# --- forms of keys -------------------------------------------------------------------------------


def decrypted_key(pem: Secret, password: Secret | None, named: str) -> Secret:
    """The same key without a password. `named`: what to call it in an error."""
    return _key_pem(_load_key(pem.reveal(), password, named))


def read_pkcs12(data: bytes, password: Secret | None, named: str) -> KeyAndTrust:
    """UsageError if it cannot be read; `named`: what to call the file."""
    try:
        loaded = pkcs12.load_pkcs12(data, password.reveal().encode() if password else None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise UsageError(
            f"{named} is not a PKCS12 file that this password opens: expected one as "
            "`keytool -storetype PKCS12` or `openssl pkcs12 -export` makes it"
        ) from None
    others = [each.certificate for each in loaded.additional_certs]
    key = None if loaded.key is None else _key_pem(loaded.key)
    if key is None or loaded.cert is None:
        own = [] if loaded.cert is None else [loaded.cert.certificate]
        return KeyAndTrust(None, "", _pem([*own, *others]))
    chain = _in_order(loaded.cert.certificate, others)
    return KeyAndTrust(key, _pem(chain), _pem(others))


def _in_order(own: x509.Certificate, others: list[x509.Certificate]) -> list[x509.Certificate]:
    """Each followed by the one that signed it, as TLS wants them; others are left out."""
    chain, left = [own], list(others)
    while chain[-1].issuer != chain[-1].subject:
        above = next((each for each in left if each.subject == chain[-1].issuer), None)
        if above is None:
            break
        left.remove(above)
        chain.append(above)
    return chain


def _load_key(pem: str, password: Secret | None, named: str) -> PrivateKeyTypes:
    try:
        return serialization.load_pem_private_key(
            pem.encode(), password.reveal().encode() if password else None
        )
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise UsageError(f"{named} is not a private key in PEM that this password opens") from None


def _key_pem(key: PrivateKeyTypes | pkcs12.PKCS12PrivateKeyTypes) -> Secret:
    return Secret(key.private_bytes(_PEM, _PKCS8, serialization.NoEncryption()).decode())
