"""What ``ringnic serve`` tells of those who use its cards."""

import pytest

from ringnic.host.serve.command import tell_of_client


@pytest.mark.parametrize("connected, error, text", [
    (True, None, "a client has connected"),
    (False, None, "the client has gone"),
    (True, ValueError("it will not get far"), "it will not get far"),
    (False, BrokenPipeError(32, "Broken pipe"), "the client was disconnected: Broken pipe"),
    (False, ValueError("Command 7"), "the client was disconnected: Command 7"),
])
def test_clients(capsys, connected, error, text):
    tell_of_client("/a/socket", connected, error)
    assert capsys.readouterr().err == f"ringnic: /a/socket: {text}\n"
