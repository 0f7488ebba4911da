"""Writes java_names.tsv anew: what Java's X500Principal.getName() makes of names that are awkward.

    python tests/unit/security/record_java_names.py

Each line: what is odd about the name, its DER in hexadecimal, Java's text in JSON. Needs `java`.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path

RECORDED = Path(__file__).with_name("java_names.tsv")

UTF8, PRINTABLE, T61, IA5, GENERAL, UNIVERSAL, BMP = 0x0C, 0x13, 0x14, 0x16, 0x1B, 0x1C, 0x1E
NUMERIC, VISIBLE, BITS, OCTETS, INTEGER, BOOLEAN, SEQUENCE, SET = (
    *(0x12, 0x1A, 0x03, 0x04, 0x02, 0x01, 0x30, 0x31),
)
CN, SURNAME, SERIAL, C, L, ST, STREET, ORG, OU, TITLE = (
    f"2.5.4.{last}" for last in (3, 4, 5, 6, 7, 8, 9, 10, 11, 12)
)
GIVEN_NAME, INITIALS, QUALIFIER, BUSINESS = "2.5.4.42", "2.5.4.43", "2.5.4.46", "2.5.4.15"
DC, UID = "0.9.2342.19200300.100.1.25", "0.9.2342.19200300.100.1.1"
EMAIL = "1.2.840.113549.1.9.1"

JAVA = """
import java.nio.file.*;
import java.util.*;
import javax.security.auth.x500.X500Principal;

public class Names {
    public static void main(String[] arguments) throws Exception {
        for (String line : Files.readAllLines(Path.of(arguments[0]))) {
            String name = new X500Principal(HexFormat.of().parseHex(line)).getName();
            byte[] text = name.getBytes("UTF-16BE");
            System.out.println("=" + HexFormat.of().formatHex(text));
        }
    }
}
"""


def tlv(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(octets))) + octets + content


def oid(text: str) -> bytes:
    first, second, *rest = map(int, text.split("."))
    content = b""
    for number in (first * 40 + second, *rest):
        octets = [number & 0x7F]
        while number := number >> 7:
            octets.insert(0, number & 0x7F | 0x80)
        content += bytes(octets)
    return tlv(0x06, content)


Attribute = tuple[str, int, bytes]


def name(*relative_names: list[Attribute]) -> bytes:
    return tlv(
        SEQUENCE,
        b"".join(
            tlv(SET, b"".join(tlv(SEQUENCE, oid(of) + tlv(tag, value)) for of, tag, value in each))
            for each in relative_names
        ),
    )


def cn(text: str, tag: int = UTF8) -> bytes:
    return name([(CN, tag, text.encode())])


def cases() -> dict[str, bytes]:
    found = {
        "empty": name(),
        "plain": name([(C, PRINTABLE, b"DE")], [(ORG, UTF8, b"Example")], [(CN, UTF8, b"alice")]),
        "every keyword": name(
            *(
                [(of, UTF8, f"v{at}".encode())]
                for at, of in enumerate((UID, DC, STREET, C, ST, L, ORG, OU, CN))
            )
        ),
        "domain components": name(
            [(DC, IA5, b"com")], [(DC, IA5, b"example")], [(CN, PRINTABLE, b"host")]
        ),
        "e-mail": name([(CN, UTF8, b"a")], [(EMAIL, IA5, b"a@example.com")]),
        "several in one": name(
            [(CN, UTF8, b"a"), (UID, UTF8, b"b")], [(ORG, UTF8, b"c"), (OU, UTF8, b"d")]
        ),
        "several in one, the other way": name([(UID, UTF8, b"b"), (CN, UTF8, b"a")]),
        "several in one, not in DER's order": name([(OU, UTF8, b"zzzzzz"), (CN, UTF8, b"a")]),
        "an e-mail among several": name([(CN, UTF8, b"a"), (EMAIL, IA5, b"a@b")]),
        "the same twice": name([(OU, UTF8, b"a")], [(OU, UTF8, b"a")]),
        "an empty value": cn(""),
        "as user in a replacement": cn("User:alice"),
        "a long value": cn("x" * 300),
    }
    for each in (SURNAME, SERIAL, TITLE, GIVEN_NAME, INITIALS, QUALIFIER, BUSINESS):
        found[f"attribute {each}"] = name([(each, PRINTABLE, b"value")])
    for each in ("1.2.3", "2.999.1", "0.9.2342.19200300.100.1.3", "1.3.6.1.4.1.99999999999.4"):
        found[f"attribute {each}"] = name([(each, UTF8, "välue".encode())])
    for sign in ",=+<>#;\"\\/'()*&%$!?@^`{}|~:-_. \t\n\r\x7f\x01":
        found[f"sign {ord(sign):#04x} within"] = cn(f"a{sign}b")
        found[f"sign {ord(sign):#04x} at both ends"] = cn(f"{sign}a{sign}")
        found[f"sign {ord(sign):#04x} alone"] = cn(sign)
    found |= {
        "blanks": cn("   "),
        "many blanks at the ends": cn("   a  b   "),
        "blanks and returns": cn(" \r a \r "),
        "blank and comma": cn(" ,a, "),
        "a tab beside a blank": cn("\t a \t"),
        "zero byte": cn("a\0b"),
        "zero byte at the end": cn("alice\0"),
        "another name inside": cn("alice,O=Example"),
        "escaped already": cn("a\\,b"),
        "umlauts": cn("Jürgen Müßig"),
        "a no-break space at both ends": cn("\u00a0a\u00a0"),
        "a line separator": cn("a\u2028b"),
        "decomposed": cn("Ju\u0308rgen"),
        "Chinese": cn("王小明"),
        "right to left": cn("\u202eecila"),
        "beyond the basic plane": cn("a😀b"),
        "no UTF-8": name([(CN, UTF8, b"a\xff\xfeb")]),
        "UTF-8 that is cut off": name([(CN, UTF8, b"a\xe2\x82")]),
        "UTF-8 that is too long": name([(CN, UTF8, b"a\xc0\xafb")]),
        "a surrogate in UTF-8": name([(CN, UTF8, b"a\xed\xa0\x80b")]),
        "BMPString": name([(CN, BMP, "Jürgen".encode("utf-16-be"))]),
        "UniversalString": name([(CN, UNIVERSAL, "Jü".encode("utf-32-be"))]),
        "T61String": name([(CN, T61, "Jürgen".encode("latin-1"))]),
        "T61String of ASCII": name([(CN, T61, b"alice")]),
        "IA5String": name([(CN, IA5, b"alice")]),
        "GeneralString": name([(CN, GENERAL, b"alice")]),
        "PrintableString that is none": name([(CN, PRINTABLE, b"a@b*c_")]),
        "NumericString": name([(CN, NUMERIC, b"12 34")]),
        "VisibleString": name([(CN, VISIBLE, b"alice")]),
        "octets": name([(CN, OCTETS, b"alice")]),
        "bits": name([(CN, BITS, b"\x00\xff")]),
        "a number": name([(CN, INTEGER, b"\x05")]),
        "a truth": name([(CN, BOOLEAN, b"\xff")]),
        "a sequence": name([(CN, SEQUENCE, tlv(UTF8, b"a"))]),
        "an unknown attribute that is a sequence": name([("1.2.3", SEQUENCE, tlv(UTF8, b"a"))]),
    }
    return found


def record() -> str:
    names = cases()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "Names.java").write_text(JAVA)
        (Path(folder) / "names").write_text("\n".join(each.hex() for each in names.values()))
        answer = subprocess.run(
            ["java", "Names.java", "names"], cwd=folder, capture_output=True, text=True, check=True
        )
    texts = [
        bytes.fromhex(line[1:]).decode("utf-16-be", "surrogatepass")
        for line in answer.stdout.splitlines()
    ]
    return "".join(
        f"{what}\t{der.hex()}\t{json.dumps(text)}\n"
        for (what, der), text in zip(names.items(), texts, strict=True)
    )


if __name__ == "__main__":
    RECORDED.write_text(record())
