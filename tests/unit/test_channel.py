"""Test the messages between the runtime and the container's init."""

import pytest

from rootless.errors import RootlessError
from rootless.kernel import channel


def test_what_was_said_before_the_end_is_heard_even_if_something_was_left_unread() -> None:
    ours, theirs = channel.pair()
    channel.send(ours, channel.SAVED)
    channel.send_failure(theirs, OSError(2, "mount: gone", "/x"), "mount", "/mounts/0")
    theirs.close()
    with pytest.raises(RootlessError, match=r"mount: .*/mounts/0.*/x.*ENOENT"):
        channel.receive(ours, channel.CREATED)
    with pytest.raises(EOFError):
        channel.receive(ours, channel.CREATED)
    ours.close()


def test_a_message_out_of_turn() -> None:
    ours, theirs = channel.pair()
    channel.send(theirs, channel.MAPPED)
    with pytest.raises(RuntimeError, match="mapped out of turn"):
        channel.receive(ours, channel.CREATED)
    ours.close()
    theirs.close()


def test_each_message_has_a_tag_and_a_name_of_its_own() -> None:
    tags = {name: tag for name, tag in vars(channel).items() if name.isupper() and isinstance(tag, bytes)}
    assert len(tags) >= 20
    assert len(set(tags.values())) == len(tags) and {len(tag) for tag in tags.values()} == {1}
    assert channel._NAMES.keys() == set(tags.values()) and len(set(channel._NAMES.values())) == len(tags)
