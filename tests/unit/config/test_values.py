"""The kinds of value: what each accepts and in which spelling, what it refuses and with which words."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from setup.config import hosts
from setup.config import types as kinds

KINDS = {name: kind for name, kind in vars(kinds).items() if isinstance(kind, kinds.Kind)} | {
    "CHOICE": kinds.choice("one", "Two"),
    "NUMBER": kinds.whole_number("number", 0, 4),
}

ACCEPTED = {
    "TEXT": [
        ("avatar", "avatar"), (" edge blanks ", " edge blanks "), ("a'b\"c$d#e\\f", "a'b\"c$d#e\\f"),
        ("é日\U0001f600", "é日\U0001f600"), ("x" * 4096, "x" * 4096),
    ],
    "UNPADDED_TEXT": [("inner  blanks", "inner  blanks"), ("a'b\"c$d#e\\f", "a'b\"c$d#e\\f")],
    "BOOLEAN": [
        ("true", "true"), ("YES", "true"), ("On", "true"), ("1", "true"), (" true ", "true"),
        ("false", "false"), ("NO", "false"), ("off", "false"), ("0", "false"),
    ],
    "PORT": [("1", "1"), ("443", "443"), ("0443", "443"), (" 65535 ", "65535")],
    "NUMBER": [("0", "0"), ("4", "4")],
    "CHOICE": [("one", "one"), ("ONE", "one"), (" two ", "Two")],
    "LOG_LEVEL": [("debug", "DEBUG"), ("Warning", "WARNING")],
    "HOST": [
        ("db", "db"), ("Mail.Example.COM", "mail.example.com"), ("my_db", "my_db"), (" mail ", "mail"),
        ("10.0.0.1", "10.0.0.1"), ("2001:DB8::0:1", "2001:db8::1"), ("[::1]", "::1"),
        ("münchen.example", "xn--mnchen-3ya.example"), ("straße.example", "xn--strae-oqa.example"),
        ("日本.example", "xn--wgv71a.example"), ("XN--MNCHEN-3YA.example", "xn--mnchen-3ya.example"),
        ("example。com", "example.com"), (f"{'a' * 63}.example", f"{'a' * 63}.example"),
    ],
    "HOSTS": [
        ("b.example, a.example,B.example", "b.example,a.example"), ("10.0.0.1", "10.0.0.1"),
        ("a,", "a"), ("a\nb\n", "a,b"), ("a,\r\nb,\r\n", "a,b"),
    ],
    "NETLOC": [("Avatar:8443", "avatar:8443"), ("[::1]:80", "[::1]:80"), ("::1", "[::1]"), ("avatar", "avatar")],
    "PUBLIC_URL": [
        ("avatar.example.com", "avatar.example.com"), ("avatar.example.com/", "avatar.example.com"),
        ("Avatar.Example.com:8443", "avatar.example.com:8443"), ("HTTPS://Avatar", "https://avatar"),
        ("https://avatar.example.com:443/", "https://avatar.example.com:443"),
        ("http://localhost:80", "http://localhost:80"),
        ("192.0.2.7:8080", "192.0.2.7:8080"), ("2001:db8::1", "[2001:db8::1]"), ("[2001:DB8::1]", "[2001:db8::1]"),
        ("https://[::1]:8443", "https://[::1]:8443"),
        ("https://münchen.example:8443", "https://xn--mnchen-3ya.example:8443"),
    ],
    "HTTP_URL": [
        ("http://s3:8333", "http://s3:8333"), ("HTTPS://S3.Example.COM/Path", "https://s3.example.com/Path"),
        ("https://[::1]:80/a/b.json", "https://[::1]:80/a/b.json"), ("https://a/", "https://a/"),
        ("https://é.example/a%20b", "https://xn--9ca.example/a%20b"),
    ],
    "SWITCHABLE_URL": [("disabled", "disabled"), (" Disabled ", "disabled"), ("https://a/b", "https://a/b")],
    "REPLICAS": [("1", "1"), (" 6 ", "6"), ("100", "100")],
    "MEMORY": [("512m", "512m"), ("8g", "8g")],
    "CPUS": [("2", "2"), ("0.5", "0.5"), ("16", "16"), ("0.25", "0.25")],
    "QUANTITY": [("20Gi", "20Gi"), (" 512Mi ", "512Mi"), ("1Ti", "1Ti")],
    "LABEL": [("avatar", "avatar"), ("a-1", "a-1"), ("7", "7"), ("a" * 63, "a" * 63)],
    "OBJECT": [("avatar-tls", "avatar-tls"), ("cluster.local", "cluster.local"), ("a.b-c.d", "a.b-c.d")],
    "ADDRESS": [("127.0.0.1", "127.0.0.1"), (" [2001:DB8::1] ", "2001:db8::1"), ("::1", "::1")],
    "EMAIL": [
        ("ada@example.com", "ada@example.com"), (" Ada.L+x@Example.COM ", "Ada.L+x@example.com"),
        ("o'neil@example.com", "o'neil@example.com"), ("ada@[192.0.2.1]", "ada@[192.0.2.1]"),
        ("ada@[2001:DB8::1]", "ada@[2001:db8::1]"), ("ada@münchen.example", "ada@xn--mnchen-3ya.example"),
        (f"{'a' * 64}@example.com", f"{'a' * 64}@example.com"), ("root@localhost", "root@localhost"),
    ],
    "EMAILS": [
        ("ada@a.example, bob@b.example", "ada@a.example,bob@b.example"), ("a@b,a@B", "a@b"), ("a@b.c,", "a@b.c"),
        ("a@b.c\nd@e.f", "a@b.c,d@e.f"),
    ],
    "NETWORKS": [
        ("10.0.0.0/8", "10.0.0.0/8"), ("10.1.2.3/8", "10.0.0.0/8"), ("192.0.2.1", "192.0.2.1/32"),
        ("2001:db8::/32 , 10.0.0.1", "2001:db8::/32,10.0.0.1/32"), ("10.0.0.0/255.0.0.0", "10.0.0.0/8"),
    ],
    "HOST_PATH": [
        ("/etc/tls/a b:c#d.crt", "/etc/tls/a b:c#d.crt"), ("./tls/a.crt", "./tls/a.crt"), ("../a.crt", "../a.crt"),
        ("tls/a.crt", "./tls/a.crt"), (".hidden", "./.hidden"),
    ],
    "VERSION": [("3.10", "3.10"), ("4.44", "4.44"), (" v1_2-rc.3 ", "v1_2-rc.3"), ("NO", "NO"),
        ("a" * 128, "a" * 128)],
    "IMAGE": [
        ("nginx", "nginx"), ("nginx:1.31.0", "nginx:1.31.0"),
        ("mirror.example:5000/a/b_c:1", "mirror.example:5000/a/b_c:1"),
        (f"a/b:1@sha256:{'0' * 64}", f"a/b:1@sha256:{'0' * 64}"),
    ],
    "REPOSITORY": [("quay.io/octopize", "quay.io/octopize"), ("mirror:5000/x/y", "mirror:5000/x/y"),
        ("chrislusf", "chrislusf")],
    "NAME": [("mycompany-prod", "mycompany-prod"), ("A.b_c-1", "A.b_c-1"), ("3.10", "3.10"), ("a" * 63, "a" * 63)],
    "DURATION": [("30d", "30d"), ("2w", "2w"), ("12h", "12h"), ("99999h", "99999h")],
    "ADMIN_ROLE": [(text, text) for text in ("postgres", "avatar-admin", "a.b@c", "-;a=%I/-*{}#!")],
    "STORAGE_KEY": [(text, text) for text in ("a" * 64, "AKIA/+=_.-")],
    "SERVER": [("Mail.example.com", "mail.example.com"), ("e5", "e5"), ("::1", "::1"), ("nullable", "nullable")],
    "UNLIKE_AN_ADDRESS": [(text, text) for text in ("a//[b", "x://y", "12345678", "[]", "aä//")],
    "STORAGE_PATH": [("s3://{user_id}/{expire_days}d", "s3://{user_id}/{expire_days}d")],
    "HEX_KEY": [("0123456789abcdefABCDEF" + "0" * 42, "0123456789abcdefABCDEF" + "0" * 42)],
    "FERNET_KEY": [("_-" + "a" * 41 + "=", "_-" + "a" * 41 + "=")],
}  # fmt: skip

REFUSED = {
    "TEXT": [
        ("", "must not be empty"), ("  ", "must not be blank"), ("\u00a0", "must not be blank"),
        ("a\nb", "U+000A"), ("a\rb", "U+000D"), ("a\x00b", "U+0000"), ("a\x1bb", "U+001B"), ("a\x7fb", "U+007F"),
        ("a\x85b", "U+0085"), ("a\u2028b", "U+2028"), ("a\udcffb", "U+DCFF"), ("x" * 4097, "4096 characters"),
    ],
    "UNPADDED_TEXT": [
        (" before", "begin or end"), ("after ", "begin or end"), ("\u3000wide", "begin or end"),
        ("", "empty"), ("a\nb", "U+000A"),
    ],
    "BOOLEAN": [(word, "true or false") for word in ("", "y", "n", "2", "truee", "maybe", "t rue", "null")],
    "PORT": [
        (word, "from 1 to 65535") for word in ("", "0", "65536", "-1", "+1", "80.0", "8_0", "0x50", "٣", "８０",
        "9" * 5000, "http")
    ],
    "NUMBER": [("5", "from 0 to 4"), ("-0", "from 0 to 4")],
    "CHOICE": [("three", "one of one, Two"), ("", "one of one, Two"), ("onetwo", "one of one, Two")],
    "LOG_LEVEL": [("verbose", "one of DEBUG, INFO, WARNING, ERROR, CRITICAL")],
    "HOST": [
        ("", "host name"), ("a..b", "host name"), (".a", "host name"), ("-a", "host name"),
        ("avatar.example.com.", "ends with a dot: remove the dot"), ("a.", "remove the dot"), (".", "host name"),
        ("a-", "host name"), ("a b", "host name"), ("a/b", "host name"), ("*.a", "host name"), ("a" * 64, "host name"),
        (".".join(["a" * 63] * 4), "host name"), ("a$b", "host name"), ("a;b", "host name"), ("xn--", "host name"),
        ("1.2.3", "IP address"), ("1.2.3.256", "IP address"), ("01.2.3.4", "IP address"), ("12", "IP address"),
        ("127.0x1", "IP address"), ("٣.٣.٣.٣", "host name"), ("999。1。1。1", "IP address"), ("[1.2.3.4]", "host name"),
        ("a:80", "only the host"), (":::", "IP address"), ("fe80::1%eth0", "zone"), ("é..b", "host name"),
        ("a\u200db.example", "host name"), ("é\udcff", "host name"), ("é" * 300, "host name"),
        ("user:hunter2@mail", "user name or password"), ("https://mail", "only the host"),
    ],
    "HOSTS": [
        ("a;b", "'a;b' is not a valid host name: separate several with commas"), ("a,,b", "host name"),
        ("", "host name"), ("a b", "'a b' is not a valid host name: separate several with commas"), (",", "host name"),
        ("a,b c,d", "'b c' is not a valid host name"), ("a,\n,b", "host name"),
    ],
    "NETLOC": [("a:0", "port"), ("a:b", "port"), ("[::1]80", "brackets"), ("https://a", "port")],
    "PUBLIC_URL": [
        ("", "host name"), ("https://", "host name"), ("://a", "scheme"), ("ftp://a", "scheme"),
        ("javascript://a", "scheme"),
        ("https:a", "port"), ("https:/a", "path"), ("//a", "path"), ("https://a/b", "path"), ("a/web", "path"),
        ("https://a//", "path"), ("https://a?b", "path"), ("https://a#b", "path"), ("https://a\\b", "path"),
        ("https://u:p@a", "user name or password"), ("u@a", "user name or password"), ("a:0", "port"),
        ("a:65536", "port"),
        ("a:", "port"), ("a:-1", "port"), ("a:８０", "port"), ("a:00000443", "port"), (":443", "host name"),
        ("[::1", "brackets"), ("[::1]443", "brackets"), ("[a]:443", "brackets"), ("[fe80::1%25eth0]", "zone"),
        ("a b", "host name"), ("a,b", "host name"), ("a\nb", "host name"), ("a\x00", "host name"),
        ("a_b.example", "underscore"),
        ("$(id)", "host name"), ("${HOME}", "host name"), ("a;b", "host name"), ("{{a}}", "host name"),
        ("1.2.3", "IP address"),
    ],
    "HTTP_URL": [
        ("", "begins with https://"), ("a.example", "begins with https://"), ("s3://a", "begins with https://"),
        ("https://", "host name"), ("https:///a", "host name"), ("https://u:p@a/", "user name or password"),
        ("https://a/b?c=d", "character"), ("https://a/b#c", "character"), ("https://a/b c", "character"),
        ("https://a/$b", "character"), ("https://a/é", "character"), ("https://a:b/", "port"),
    ],
    "SWITCHABLE_URL": [("off", "or the word disabled"), ("false", "or the word disabled"),
        ("", "or the word disabled")],
    "REPLICAS": [(text, "a whole number from 1 to 100") for text in ("0", "-1", "1.5", "101", "two", "")],
    "MEMORY": [(text, "m or g") for text in ("", "8", "0g", "8 g", "8gb", "8G", "-1m", "1.5g")],
    "CPUS": [(text, "as in 2 or 0.5") for text in ("", "0", "0.0", "-1", ".5", "1,5", "2cores", "0.005")],
    "QUANTITY": [(text, "as in 20Gi") for text in ("", "20", "20G", "0Gi", "1.5Gi", "20gi", "-1Gi", "20 Gi")],
    "LABEL": [(text, "at most 63") for text in ("", "Avatar", "a.b", "a_b", "-a", "a-", "a" * 64)],
    "OBJECT": [(text, "either end") for text in ("", "A", "a_b", "a..b", "-a", "a-.b", ".a", "a" * 64)],
    "ADDRESS": [
        (text, "IP address") for text in ("", "localhost", "10.0.0.256", "10.0.0.0/8", "127.0.0.1:443", "a.example")
    ],
    "EMAIL": [
        (text, "e-mail address") for text in (
            "", "ada", "@example.com", "ada@", "a b@c.d", ".a@b.c", "a.@b.c", "a..b@c.d", "ä@b.c", "a@b@c.d",
            "Ada <a@b.c>",
            "a@b.c,d@e.f", "a@1.2.3.4", "a@[b.c]", "a@[]", "a@b c", "a@-b", f"{'a' * 65}@b.c", "a\n@b.c",
            "a@b.c\n,", '"a"@b.c',
            "a@::1", "a@" + "b." * 127 + "c",
        )
    ],
    "EMAILS": [
        ("", "e-mail address"), ("a@b.c;d@e.f", "'a@b.c;d@e.f' is not an e-mail address: separate several with commas"),
        ("a@b.c d@e.f", "separate several with commas"), ("a@b.c|d@e.f", "separate several with commas"),
        ("a@b.c,ada", "'ada' is not an e-mail address"),
    ],
    "NETWORKS": [
        ("", "network"), ("10", "network"), ("a/8", "network"), ("10.0.0.0/33", "network"),
        ("10.0.0.0/8/8", "network"),
        ("10.0.0.0/8;10.1.0.0/16", "separate several with commas"), ("10.0.0.0/8,a/8", "'a/8': each must be"),
        ("fe80::1%eth0", "network"), ("fe80::%eth0/64", "network"),
    ],
    "HOST_PATH": [
        ("", "empty"), ("~/a.crt", "~"), ("a\nb", "U+000A"), ("a\x00", "U+0000"), ("/", "file"), (".", "file"),
        ("..", "file"),
        ("./tls/", "file"), ("/a/..", "file"), (" ./a", "blank"), ("./a ", "blank"),
        ("$HOME/a.crt", "whole path"), ("${HOME}/a.crt", "whole path"),
        ("`pwd`/a.crt", "whole path"), ("/home/$USER/a.crt", "whole path"), ("$(pwd)/a", "whole path"),
        ("%USERPROFILE%/a.crt", "whole path"),
        ("C:\\certs\\a.crt", "Docker host"), ("c:/certs/a.crt", "Docker host"), (".\\a.crt", "Docker host"),
        ("file:///etc/a.crt", "Docker host"), ("/etc/a.crt:ro", "without :ro"), ("./a.crt:Z", "without :Z"),
    ],
    "VERSION": [(text, "image tag") for text in ("", "-1", ".1", "a b", "a/b", "a:b", "1.2.3\n4", "é", "１",
        "a" * 129, "$TAG")],
    "IMAGE": [(text, "image reference") for text in ("", "https://a/b", "a/B", "a//b", "a:", "a@sha256:0", "a b",
        ":1", "a:1:2", "/a")],
    "REPOSITORY": [(text, "registry") for text in ("", "a:1", "quay.io/octopize/", "https://quay.io", "quay.io/A",
        "a b")],
    "NAME": [(text, "letters, digits") for text in ("", "-a", "_a", ".a", "a b", "a/b", "é", "a" * 64, "a\nb",
        "a=b", "a$b")],
    "DURATION": [(text, "30d, 2w or 12h") for text in ("", "30", "d", "0d", "-1d", "30D", "30 d", "1.5d", "30m",
        "100000d", "1d2h", "٣d")],
    "ADMIN_ROLE": [
        (text, "role name")
        for text in ("", "o'brien", 'a"b', "a$b", "a\\b", "pg_admin", "a" * 64, "a b", "a--b", "a/*b", "a*/b")
    ],
    "SERVER": [("null", "Authentik"), ("TRUE", "Authentik"), ("1e5", "Authentik"), ("a b", "host name")],
    "UNLIKE_AN_ADDRESS": [("x://[y", "broken URL"), ("//]", "broken URL"), ("x://ä", "broken URL"), ("", "empty")],
    "STORAGE_KEY": [(text, "letters, digits") for text in ("", "-a", "a b", "a'b", "a$b", "a;b")],
    "STORAGE_PATH": [(text, "s3://") for text in ("", "s3://", "/a", "s3://a b", "s3://a$b", "https://a")],
    "HEX_KEY": [(text, "64 hexadecimal digits") for text in ("", "0" * 63, "0" * 65, "g" * 64)],
    "FERNET_KEY": [(text, "44 characters") for text in ("", "a" * 44, "a" * 42 + "=", "+" * 43 + "=")],
}  # fmt: skip


def _cases(table):
    return [
        pytest.param(KINDS[name], text, expected, id=f"{name}-{number}-{text[:30]!a}")
        for name, rows in table.items()
        for number, (text, expected) in enumerate(rows)
    ]


def test_every_kind_has_accepted_and_refused_texts():
    assert set(ACCEPTED) == set(REFUSED) == set(KINDS)


@pytest.mark.parametrize(("kind", "text", "shown"), _cases(ACCEPTED))
def test_accepted(kind, text, shown):
    value = kind.parse(text)
    assert kinds.show(value) == shown
    assert kind.parse(shown) == value


@pytest.mark.parametrize(("kind", "text", "words"), _cases(REFUSED))
def test_refused(kind, text, words):
    with pytest.raises(ValueError, match=r"\w") as refusal:
        kind.parse(text)
    reason = str(refusal.value)
    assert words in reason
    assert len(reason) < 300, "a long value is not repeated whole"
    assert reason.isprintable(), "no line break and no escape sequence of the value reaches a terminal"


@pytest.mark.parametrize(
    "text", ["user:hunter2@mail", "https://user:hunter2@mail/", "https://user:hunter2/x@mail", "//u:hunter2@h"]
)
@pytest.mark.parametrize(
    "kind", [kinds.HOST, kinds.HOSTS, kinds.NETLOC, kinds.PUBLIC_URL, kinds.HTTP_URL, kinds.NETWORKS]
)
def test_a_refused_address_never_repeats_its_password(kind, text):
    with pytest.raises(ValueError, match=r"\w") as refusal:
        kind.parse(text)
    assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize("kind", [kind for kind in KINDS.values() if kind.choices], ids=lambda kind: kind.expects[:30])
def test_a_choice_parses_its_own_words(kind):
    assert [kinds.show(kind.parse(word)) for word in kind.choices] == list(kind.choices)


@pytest.mark.parametrize("kind", [kind for kind in KINDS.values() if kind.multiple], ids=lambda kind: kind.name)
def test_lists_are_tuples_without_repetition(kind):
    one = {"hosts": "a.example", "e-mail addresses": "a@b.c", "networks": "10.0.0.0/8"}[kind.name]
    assert kind.parse(f"{one}, {one}") == (one,)


def test_typed_values():
    """Templates get booleans, numbers and parts, not texts that only look like them."""
    assert kinds.BOOLEAN.parse("yes") is True
    assert kinds.PORT.parse("0443") == 443
    assert kinds.PUBLIC_URL.parse("https://A:8443") == hosts.PublicUrl("https", "a", 8443)
    assert kinds.PUBLIC_URL.parse("a") == hosts.PublicUrl("", "a", None)
    assert kinds.VERSION.parse("3.10") == "3.10"


@pytest.mark.parametrize(
    ("host", "port", "shown"),
    [
        ("a", None, "a"),
        ("a", 443, "a:443"),
        ("10.0.0.1", 1, "10.0.0.1:1"),
        ("::1", None, "[::1]"),
        ("::1", 2, "[::1]:2"),
    ],
)
def test_netloc(host, port, shown):
    assert hosts.netloc(host, port) == shown


_LABELS = st.from_regex(r"[a-z]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)
_HOSTS = st.one_of(
    st.lists(_LABELS, min_size=1, max_size=4).map(".".join),
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(str),
)


@given(st.sampled_from(["", "http", "https"]), _HOSTS, st.none() | st.integers(1, 65535))
def test_a_public_url_comes_back_as_its_parts(scheme, host, port):
    text = (f"{scheme}://" if scheme else "") + hosts.netloc(host, port)
    url = kinds.PUBLIC_URL.parse(text)
    assert (url.scheme, url.port) == (scheme, port)
    assert url.host == host or ipaddress.ip_address(url.host) == ipaddress.ip_address(host)
    assert kinds.PUBLIC_URL.parse(kinds.show(url)) == url
    assert kinds.PUBLIC_URL.parse(kinds.show(url).upper() + "/") == url


# Texts that come close to values: the pieces from which addresses, mails and images are made.
_PIECES = st.sampled_from([
    "https://", "http://", "s3://", "://", "//", "/", ":", "@", "[", "]", "[::1]", "::", ".", "..", ",", " ", "%",
    "%25", "#", "?",
    "a", "B", "é", "ß", "。", "．", "＠", "日", "\u200d", "xn--", "xn--9ca", "-", "_", "0x1", "1", "١", "１", "255",
    "256", "10.0.0.1", "443",
    "65536", "true", "disabled", "30d", "\n", "\r", "\t", "\x00", "\x85", "\u2028", "\ud800", "\udcff", "$", "{",
    "}", "~", "./", "=",
])  # fmt: skip
_TEXTS = (
    st.text(max_size=40) | st.text(st.characters(codec=None), max_size=20) | st.lists(_PIECES, max_size=8).map("".join)
)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@settings(max_examples=150)
@given(text=_TEXTS)
def test_any_text_is_a_value_that_shows_itself_or_is_refused(kind, text):
    try:
        value = kind.parse(text)
    except ValueError as error:
        assert type(error) is ValueError, "a reason in our words, not one of the library's"
        assert str(error).isprintable()
        return
    shown = kinds.show(value)
    assert kind.parse(shown) == value
    assert kinds.show(kind.parse(shown)) == shown
    assert all(char >= " " and char != "\x7f" for char in shown), "no value holds a control character"
