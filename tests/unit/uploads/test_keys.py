from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rindle.objectstore.keys import validate_key
from rindle.uploads.ids import new_upload_id
from rindle.uploads.keys import FILENAME_BYTES, KeyTemplate, safe_filename, set_aside

ID = "0123456789abcdefghijklmnopqrstuv"
AT = datetime(2026, 3, 7, 23, 59, tzinfo=UTC)


def template(text: str, *, prefix: str = "uploads", usecase: str = "default") -> KeyTemplate:
    return KeyTemplate(text, prefix=prefix, usecase=usecase)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("media/{id}", f"media/{ID}"),
        ("{filename}", "report.pdf"),
        ("{prefix}/{usecase}/{date}/{id}-{filename}", f"team/a/avatars/2026-03-07/{ID}-report.pdf"),
        ("{year}/{month}/{day}/{id}.bin", f"2026/03/07/{ID}.bin"),
        ("a{{b}}/{id}", f"a{{b}}/{ID}"),
    ],
)
def test_a_key_is_the_template_with_its_fields_filled_in(text: str, key: str) -> None:
    assert template(text, prefix="team/a", usecase="avatars").render(ID, AT, "report.pdf") == key


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("media/{nmae}", r"there is no \{nmae\}; there are \{date\}, .*\{filename\}, \{id\}"),
        ("media/{}", r"there is no \{\}"),
        ("media/{id.real}", r"there is no \{id\.real\}"),
        ("media/{id[0]}", r"there is no \{id\[0\]\}"),
        ("media/{id!r}", "a field is a name in braces and nothing else"),
        ("media/{id:>9999}", "a field is a name in braces and nothing else"),
        ("media/{id", "expected '}'"),
        ("media/all", r"put \{id\} or \{filename\} into it"),
        ("{filename}/{id}", r"\{filename\} may stand after the last slash only"),
        ("/media/{id}", "no slash at its ends"),
        ("media/{id}/", "no slash at its ends"),
        ("media//{id}", "'//'"),
        ("media/../{id}", r"'\.\.'"),
        ("./{id}", r"'\.'"),
        ("a\n/{id}", "give a key such as"),
        ("a" * 200 + "{id}", "too long"),
        ("a/" * 500 + "{id}", "too long"),
        ("", r"put \{id\}"),
    ],
)
def test_a_template_that_could_not_do_is_refused_with_what_is_wrong(text: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        template(text)


def test_an_empty_prefix_leaves_no_empty_segment() -> None:
    with pytest.raises(ValueError, match="no slash at its ends"):
        template("{prefix}/{id}", prefix="")


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("report.pdf", "report.pdf"),
        ("Tätigkeits bericht (2).pdf", "Tätigkeits_bericht_2_.pdf"),
        ("データ.csv", "データ.csv"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\me\\a.txt", "a.txt"),
        ("folder/", "file"),
        (".htaccess", "htaccess"),
        ("..", "file"),
        ("a\x00b\r\nc.txt", "a_b_c.txt"),
        ("e\N{COMBINING ACUTE ACCENT}.txt", "é.txt"),
        ("a?b#c%2F.txt", "a_b_c_2F.txt"),
        ("archive.tar.gz", "archive.tar.gz"),
        ("", "file"),
        (None, "file"),
        ("x" * 300 + ".jpeg", "x" * (FILENAME_BYTES - 5) + ".jpeg"),
        ("ü" * 300 + ".jpeg", "ü" * ((FILENAME_BYTES - 5) // 2) + ".jpeg"),
        ("x." + "y" * 300, "x." + "y" * (FILENAME_BYTES - 2)),
    ],
)
def test_a_filename_becomes_one_harmless_segment(name: str | None, safe: str) -> None:
    assert safe_filename(name) == safe


@pytest.mark.invariant("I18")
@given(name=st.text(), text=st.sampled_from(["{filename}", "{usecase}/{date}/{id}-{filename}", "a/{filename}"]))
def test_whatever_a_client_calls_its_file_the_key_lies_in_the_folder_of_the_template(name: str, text: str) -> None:
    upload_id = new_upload_id()
    key = template(text).render(upload_id, AT, name)
    folder = template(text.replace("{filename}", "{id}")).render(upload_id, AT, None).rpartition("/")[0]
    assert key.rpartition("/")[0] == folder
    for made in (key, set_aside(key, upload_id)):
        assert validate_key(made, store="test") == made
        assert not made.rpartition("/")[2].startswith(".")


@pytest.mark.parametrize(
    ("key", "aside"),
    [
        ("a/report.pdf", f"a/report.{ID}.pdf"),
        ("report", f"report.{ID}"),
        ("a.b/archive.tar.gz", f"a.b/archive.tar.{ID}.gz"),
    ],
)
def test_a_key_that_is_taken_gets_the_id_before_its_suffix(key: str, aside: str) -> None:
    assert set_aside(key, ID) == aside
