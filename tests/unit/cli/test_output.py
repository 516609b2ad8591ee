"""What `telemetry-bus` prints: on a terminal, in a pipe, for machines."""

from __future__ import annotations

import io
import json

import pytest

from telemetry_bus.cli.output import Output, counted, size
from telemetry_bus.errors import printable

COLUMNS = ("id", "error")
ROWS = [(1, "no such table: x"), (20, "near [bold]: syntax error " + "long " * 40)]


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal of 60 columns, with colours."""
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return Terminal()


def test_a_table_in_a_pipe_is_aligned_and_never_wrapped() -> None:
    """One line per row, columns under their names, numbers to the right; neither frames nor trailing spaces."""
    pipe = io.StringIO()
    Output(as_json=False, stream=pipe).table(COLUMNS, ROWS, wrapped=1)
    expected = ["id  error", f" 1  {ROWS[0][1]}", f"20  {ROWS[1][1]}".rstrip()]
    assert expected == pipe.getvalue().splitlines()


def test_a_table_on_a_terminal_keeps_to_its_width(terminal: Terminal) -> None:
    """A column that may be wrapped is, and what looks like the markup of a library is text."""
    Output(as_json=False, stream=terminal).table(COLUMNS, ROWS, wrapped=1)
    lines = terminal.getvalue().splitlines()
    assert len(lines) > 4
    assert "─" in lines[1]
    assert any("near [bold]: syntax error" in line for line in lines)


def test_fields_in_a_pipe_are_aligned_and_without_colour() -> None:
    """A name and its value per line, however long it is."""
    pipe = io.StringIO()
    Output(as_json=False, stream=pipe).fields({"state": "degraded", "last error": "x" * 200})
    assert f"state       degraded\nlast error  {'x' * 200}\n" == pipe.getvalue()


def test_the_state_has_a_colour_on_a_terminal(terminal: Terminal) -> None:
    """Red is seen before it is read."""
    Output(as_json=False, stream=terminal).fields({"state": "degraded"})
    assert "\x1b[1;31mdegraded" in terminal.getvalue()


def test_the_state_at_the_beginning_of_a_line_has_a_colour_on_a_terminal(terminal: Terminal) -> None:
    """It alone; the line stays whole, however long it is."""
    text = "problem  disk [bold] " + "x" * 100
    Output(as_json=False, stream=terminal).line(text, state="problem")
    assert f"\x1b[1;31mproblem\x1b[0m{text.removeprefix('problem')}\n" == terminal.getvalue()
    Output(as_json=False, stream=(pipe := io.StringIO())).line(text, state="problem")
    assert f"{text}\n" == pipe.getvalue()


def test_a_sentence_is_wrapped_between_words_on_a_terminal(terminal: Terminal) -> None:
    """Below its beginning; in a pipe it is one line."""
    text = "a sentence that says much of what was found " * 2
    Output(as_json=False, stream=terminal).sentence(text, begin="name  ")
    lines = terminal.getvalue().splitlines()
    assert 60 >= max(map(len, lines))
    assert text.split() == " ".join(lines).removeprefix("name  ").split()
    assert ["name  a", "      t"] == [line[:7] for line in lines]
    Output(as_json=False, stream=(pipe := io.StringIO())).sentence(text.strip(), begin="name  ")
    assert f"name  {text.strip()}\n" == pipe.getvalue()


def test_large_numbers_are_for_people_on_a_terminal(terminal: Terminal) -> None:
    """And for programs in a pipe."""
    output, plain = Output(as_json=False, stream=terminal), Output(as_json=False, stream=io.StringIO())
    assert ("1,234,567", "1,000 jobs", "1 job") == (
        output.number(1234567),
        output.counted(1000, "job"),
        output.counted(1, "job"),
    )
    assert ("1234567", "1000 jobs") == (plain.number(1234567), plain.counted(1000, "job"))


def test_numbers_of_any_form_stand_to_the_right() -> None:
    """With separators and fractions, and the dash for what is not known; a name never."""
    pipe = io.StringIO()
    Output(as_json=False, stream=pipe).table(("rate", "name"), [("-", "-5a"), ("1,234", "b"), ("10.5", "7")])
    assert [" rate  name", "    -  -5a", "1,234  b", " 10.5  7"] == pipe.getvalue().splitlines()


@pytest.mark.parametrize("values", [[], [{"a": 1}], [1, "two\n", None]])
def test_an_array_is_one_json_document(values: list[object]) -> None:
    """Written value by value, and read as a whole."""
    pipe = io.StringIO()
    Output(as_json=True, stream=pipe).array(iter(values))
    assert values == json.loads(pipe.getvalue())
    assert max(1, len(values)) == pipe.getvalue().count("\n")


def test_what_would_steer_a_terminal_is_escaped() -> None:
    """The text of an error comes from data; it must not colour, move or break anything."""
    assert r"a\x1b[31mb\nc\x00\udc80 Größe" == printable("a\x1b[31mb\nc\0\udc80 Größe")


def test_what_the_encoding_of_the_output_cannot_show_is_escaped() -> None:
    """An old locale is no reason to fail."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    Output(as_json=False, stream=stream).line("Größe …")
    stream.flush()
    assert b"Gr\\xf6\\xdfe \\u2026\n" == raw.getvalue()


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, "0 bytes"),
        (10_239, "10239 bytes"),
        (10_240, "10 KiB"),
        (10 << 20, "10 MiB"),
        (3 << 30, "3072 MiB"),
        (30 << 30, "30 GiB"),
    ],
)
def test_sizes_are_for_people(count: int, expected: str) -> None:
    """Two digits or more, in the largest unit that has them."""
    assert expected == size(count)


def test_one_is_singular() -> None:
    """As people say it."""
    assert ["0 jobs", "1 job", "2 jobs"] == [counted(count, "job") for count in range(3)]
