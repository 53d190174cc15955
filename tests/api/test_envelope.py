"""What says no although its status says yes, and what VPS.org's own words for a refusal are."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_backups.api.envelope import IS_PAGE, SAYS_NO, denial, said

JSON = "application/json"


ERRORS: list[Any] = ["x", {"code": 1}, ["x"], True, 5, {"server_id": ["x"]}, [{}], [None]]
NO_ERRORS: list[Any] = [None, "", [], {}, False, 0, "null", "none", "false"]
OTHER_STATUSES: list[Any] = ["deleting", "in_progress", "completed", "", None, True, 200, 204, 399, "200", []]
ODD: list[Any] = [None, "", "maybe", [], {}, 2]


def says(body: object) -> str:
    return denial(body if isinstance(body, bytes) else json.dumps(body).encode(), JSON)


SAYING_NO: list[Any] = [
    *({"success": no} for no in (False, "false", "False", 0, "0", "no")),
    *({name: False} for name in ("ok", "OK", "Success", "succeeded", "successful")),
    *({"status": word} for word in ("error", "failed", "FAILED", " Fail ", "failure", "Error", "rejected", False)),
    *({"status": code} for code in (400, 403, 500, 503, "404", 422.0)),
    {"statusCode": 403, "message": "Forbidden"},
    {"code": 500, "message": "Down"},
    *({name: "error"} for name in ("result", "State", "outcome")),
    *({name: flag} for name in ("is_error", "isError", "has_errors", "failed") for flag in (True, "true")),
    {"success": 0.0},
    *({name: error} for name in ("error", "errors", "errorMessage") for error in ERRORS),
    *({name: "E17"} for name in ("error_code", "errorCode", "error_msg", "Error-Details", "error_description")),
    {"error_code": 503, "error_message": "backend down"},
    {"id": 501, "status": "completed", "errors": ["x"]},
    {"success": True, "error": "x"},
]


@pytest.mark.parametrize("body", SAYING_NO, ids=json.dumps)
def test_an_object_says_no_in_many_ways(body: object) -> None:
    assert says(body) == SAYS_NO
    assert denial(json.dumps(body).encode(), "") == denial(json.dumps(body).encode(), "text/plain") == SAYS_NO


YES: list[Any] = [
    {},
    {"success": True, "ok": 1, "status": "ok"},
    {"deleted": 1, "failed": 0, "is_error": False, "code": 0, "result": "ok", "state": "restoring"},
    *({name: none} for name in ("error", "errors", "error_code") for none in NO_ERRORS),
    {"error_code": 0, "error_msg": "ok"},
    {"errorCode": "SUCCESS", "errorMessage": None, "errored_at": "2026-11-23"},
    *({"status": word} for word in OTHER_STATUSES),
    *({"success": odd} for odd in ODD),
    {"detail": "Gone."},
    {"message": "error"},
    {"backup": {"status": "failed"}},
    [],
    [{"error": "x"}],
    "error",
    None,
    5,
    b"",
    b" \r\n",
    b"OK",
    b"error",
    b"<ok/>",
    b"<?xml version='1.0'?><response><deleted/></response>",
    b'{"success": false',
    b'{"success": false}{"success": false}',
    b"\xff\xfe",
    b"1 < 2 <html>",
]


@pytest.mark.parametrize("body", YES, ids=ascii)
def test_whatever_does_not_say_no_is_a_yes(body: object) -> None:
    assert says(body) == ""


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"<HTML lang=en><HEAD>",
        b"<!DOCTYPE html><title>Log in</title>",
        b"<!doctype HTML PUBLIC '-//W3C//DTD XHTML 1.0 Strict//EN'>",
        b"\xef\xbb\xbf<html>",
        b" \r\n\t\x0c<html>",
        b"<!-- one --> <!-- <json> two --><html>",
        b"<!-- never closed",
        b"<?xml version='1.0' encoding='UTF-8'?>\n<!DOCTYPE html><html xmlns='http://www.w3.org/1999/xhtml'>",
        b"<head>",
        b"<body>",
        b"<h1>Back soon</h1>",
        b"<title>503</title>",
        b"<center>nginx</center>",
        "<html>".encode("utf-16"),
        b"<!-- " + b"-" * 60_000 + b" --><html>",
        b"<!-- --> " * 7_000 + b"<p>",
    ],
    ids=lambda body: ascii(body[:24]),
)
@pytest.mark.parametrize("media_type", [JSON, "", "text/plain"])
def test_a_web_page_is_known_by_how_it_begins(body: bytes, media_type: str) -> None:
    assert denial(body, media_type) == denial(body, media_type, whole=False) == IS_PAGE


@pytest.mark.parametrize("media_type", ["text/html", "TEXT/HTML; charset=utf-8", "application/xhtml+xml"])
def test_a_web_page_is_known_by_its_media_type_unless_it_is_empty(media_type: str) -> None:
    """Frameworks give an empty answer the media type of a page."""
    assert denial(b"Back soon", media_type) == denial(b"{}", media_type) == IS_PAGE
    assert denial(b"", media_type, whole=False) == IS_PAGE
    assert denial(b"", media_type) == denial(b" \n", media_type) == ""


@given(st.binary() | st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists).map(json.dumps))
def test_no_body_breaks_the_reader(body: bytes | str) -> None:
    raw = body if isinstance(body, bytes) else body.encode()
    assert denial(raw, JSON) in ("", IS_PAGE, SAYS_NO)
    assert len(said(raw, JSON, str)) <= 200


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"detail": "Not allowed."}, "Not allowed."),
        ({"message": "Not allowed."}, "Not allowed."),
        ({"error": "Not allowed."}, "Not allowed."),
        ({"Error": {"Code": "quota", "Message": "Not allowed."}}, "Not allowed."),
        ({"errors": [{"status": "403", "title": "No", "detail": "Not allowed."}]}, "Not allowed.; No"),
        ({"errors": ["One.", "Two."]}, "One.; Two."),
        ({"errors": {"server_id": ["Unknown."]}}, "server_id: Unknown."),
        ({"non_field_errors": ["Not allowed."]}, "Not allowed."),
        ({"server_id": ["Required.", "Not a number."], "x": 5}, "server_id: Required.; server_id: Not a number."),
        ({"detail": "No.", "message": "No."}, "No."),
        (["One.", "Two."], "One.; Two."),
        ("Not allowed.", "Not allowed."),
        ({"detail": "a\n\tb\x1b[31m\u202e c"}, "a b c"),
        ({"detail": 'say "yes" \u201cnow\u201d'}, "say 'yes' 'now'"),
        ({"detail": "<html>Log in</html>"}, ""),
        ({"detail": {"message": "Deep."}}, "Deep."),
        ({"code": 5, "ok": False}, ""),
        ({}, ""),
        ([[[[[["deep"]]]]]], ""),
        (b"Not allowed.", ""),
        (b"<html>Not allowed.</html>", ""),
        (b'{"detail": "cut', ""),
        (b'{"detail": "party \\ud83d"}', "party \ufffd"),
        ({"detail": "secret token"}, "*** token"),
    ],
    ids=ascii,
)
def test_vps_org_s_own_words_are_found_and_cleaned(body: Any, words: str) -> None:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    assert said(raw, JSON, lambda text: text.replace("secret", "***")) == words
    assert said(raw, "text/html", str) == ""
