"""From the name of a certificate to that of a principal (KIP-371)."""

from __future__ import annotations

from time import process_time

import pytest

from minikafka.security.mapping import PrincipalMapping

NAME = "CN=Duke,OU=JavaSoft,O=Sun Microsystems,C=US"
# The example of KIP-371.
RULES = (
    "RULE:^CN=(.*?),OU=ServiceUsers.*$/$1/, "
    "RULE:^CN=(.*?),OU=(.*?),O=(.*?),L=(.*?),ST=(.*?),C=(.*?)$/$1@$2/L, "
    "RULE:^.*[Cc][Nn]=([a-zA-Z0-9.]*).*$/$1/L, DEFAULT"
)


@pytest.mark.parametrize(
    ("rules", "name", "principal"),
    [
        ("DEFAULT", NAME, f"User:{NAME}"),
        (" DEFAULT , DEFAULT ", NAME, f"User:{NAME}"),
        (RULES, "CN=kafka-server1,OU=ServiceUsers,O=x", "User:kafka-server1"),
        (RULES, "CN=Adm,OU=Admin,O=Unknown,L=Unknown,ST=Unknown,C=US", "User:adm@admin"),
        (RULES, "EMAIL=x,CN=Some.One,O=y", "User:some.one"),
        (RULES, "O=nobody", "User:O=nobody"),
        ("RULE:^CN=(.*?),.*$/$1/", NAME, "User:Duke"),
        ("RULE:^CN=(.*?),.*$/$1/L", NAME, "User:duke"),
        ("RULE:^CN=(.*?),.*$/$1/U", NAME, "User:DUKE"),
        ("RULE:CN=(.*?),OU=(.*?),.*/$2\\/$1/", NAME, "User:JavaSoft/Duke"),
        ("RULE:CN=(.*?),.*/\\$$1\\\\/", NAME, "User:$Duke\\"),
        ("RULE:CN=(.*?),.*/$0/", NAME, f"User:{NAME}"),
        ("RULE:CN=Duke(x)?,.*/a$1b/", NAME, "User:ab"),
        ("RULE:.*/x/", NAME, "User:x"),
        ("RULE:CN=a\\/b/ab/", "CN=a/b", "User:ab"),
        ("RULE:Duke/x/,RULE:CN=Duke/y/,DEFAULT", NAME, f"User:{NAME}"),  # whole or not at all
        ("RULE:CN=a{1,2}/x/,DEFAULT", "CN=aa", "User:x"),  # a comma within a rule
        ("DEFAULT,", NAME, f"User:{NAME}"),
    ],
)
def test_the_first_rule_that_fits_the_whole_name_counts(
    rules: str, name: str, principal: str
) -> None:
    assert str(PrincipalMapping(rules).principal(name)) == principal


@pytest.mark.parametrize(
    ("rules", "name"),
    [
        ("RULE:CN=(.*?),O=Mine/$1/", NAME),
        ("RULE:.*/*/", NAME),  # would be everybody
        ("RULE:.*/ANONYMOUS/", NAME),
        ("RULE:(.*)//", NAME),
        ("DEFAULT", ""),
        ("RULE:(.*)/$1$1/", "CN=" + "x" * 600),
        ("DEFAULT", "CN=" + "x" * 1_020),
    ],
)
def test_a_name_without_a_sensible_principal_is_refused(rules: str, name: str) -> None:
    with pytest.raises(ValueError) as refused:
        PrincipalMapping(rules).principal(name)
    assert name[3:] not in str(refused.value) or not name


@pytest.mark.parametrize(
    "rules",
    [
        "",
        ",",
        "DEFAULT,,DEFAULT",
        "default",
        "RULE:a/b",
        "RULE:a",
        "RULE:",
        "RULE:a/b/X",
        "RULE:a/b/LU",
        "RULE:a/b/Lrest",
        "RULE:(/b/",
        "RULE:a/$1/",
        "RULE:(a)/$2/",
        "RULE:(a)/$99999999999999999999999/",
        "RULE:(a)/$/",
        "RULE:(?P<x/b/",
        "RULE:a{99999999999}/b/",
        "RULE:" + "(" * 20_000 + "/b/",
        "RULE:a/b/," * 10_000,
        "DEFAULT DEFAULT",
    ],
)
def test_rules_that_cannot_be_read_are_refused(rules: str) -> None:
    with pytest.raises(ValueError) as refused:
        PrincipalMapping(rules)
    assert len(str(refused.value)) < 300


def test_the_longest_name_does_not_hold_up_the_rules_of_the_kip() -> None:
    """A name whose parts could be shared out in as many ways as a name may have: still far from a
    second, also on a slow machine."""
    parts = ["OU="] * 6 + ["O="] * 6 + ["L="] * 6 + ["ST="] * 6 + ["X="] * 7
    name = ("CN=" + ",".join(each + "y" * 25 for each in parts))[:1_019]
    begun_s = process_time()
    with pytest.raises(ValueError):
        PrincipalMapping(RULES.replace(", DEFAULT", "").replace("^.*[Cc]", "^X")).principal(name)
    assert process_time() - begun_s < 5
